"""GRUB's command ``[``: the tests that ``grub-mkconfig`` writes, decided.

Source: GRUB manual, "test"; ``grub-core/commands/test.c``, which looks at every operand, also behind a false one.
"""

from __future__ import annotations

from collections.abc import Callable


class ExpressionUnknown(Exception):
    """An expression that is not decided here."""


def decide(operands: list[str], size: Callable[[str], int], exists: Callable[[str], bool]) -> bool:
    """Whether the expression holds. ``size``: of a file, 0 if there is none; ``exists``: a file has this path."""
    parts: list[list[str]] = [[]]
    for operand in operands:
        if operand == "-a":
            parts.append([])
        else:
            parts[-1].append(operand)
    results = [_one(part, size, exists) for part in parts]
    return all(results)


def _one(operands: list[str], size: Callable[[str], int], exists: Callable[[str], bool]) -> bool:
    match operands:
        case [text] if not text.startswith(("-", "!", "(")):
            return text != ""
        case ["-z", text]:
            return text == ""
        case ["-n", text]:
            return text != ""
        case ["-s", path]:
            return size(path) > 0
        case ["-f", path]:
            return exists(path)
        case [left, "=" | "==", right]:
            return left == right
        case [left, "!=", right]:
            return left != right
    raise ExpressionUnknown(f"the test {' '.join(operands)[:80]!r}")
