"""Values that several tables of a policy have: numbers, words, hexadecimal strings and lists of them.

Each function reads one key of a :class:`policy.table.Table`; what is wrong becomes a problem of that table, and the
value returned then accepts nothing. The words ``"any"`` and ``"ignore"`` give ``None``: a comparison left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import TypeVar

from policy.table import Table

U64 = 2**64 - 1
_T = TypeVar("_T")


def each(table: Table, key: str, decode: Callable[[Table], _T | None]) -> tuple[_T, ...]:
    """What ``decode`` makes of every table of the array ``key``."""
    found = (decode(entry) for entry in table.tables(key))
    return tuple(entry for entry in found if entry is not None)


def enums(table: Table, key: str, words: dict[str, _T]) -> tuple[_T, ...]:
    """A non-empty list of ``words``."""
    found = table.strings(key)
    for word in found:
        if word not in words:
            table.problem(key, f'got "{word[:40]}", want some of {", ".join(words)}')
    if table.has(key) and not found:
        table.problem(key, f"empty, want some of {', '.join(words)}")
    return tuple(words[word] for word in found if word in words)


def integer(table: Table, key: str, least: int, most: int) -> int:
    """A number in ``least..most``."""
    value = table.value(key, int)
    if value is not None and not least <= value <= most:
        table.problem(key, f"got {value}, want {least}..{most}")
    return value or 0


def integers(table: Table, key: str, options: tuple[int, ...]) -> tuple[int, ...]:
    """A non-empty list of ``options``."""
    want = f"a non-empty list of {', '.join(map(str, options))}"
    value = table.value(key, list, want=want)
    if value is None:
        return ()
    good = tuple(item for item in value if type(item) is int and item in options)
    if len(good) != len(value) or not good:
        table.problem(key, f"got {value!r}, want {want}")
    return good


def optional_integer(table: Table, key: str, least: int, most: int) -> int | None:
    """A number in ``least..most``, or the word ``"any"``."""
    if word_is(table, key, "any"):
        return None
    value = table.value(key, int, want=f'"any" or an integer {least}..{most}')
    if value is not None and not least <= value <= most:
        table.problem(key, f'got {value}, want "any" or {least}..{most}')
    return least if value is None else value


def number(table: Table, key: str, bits: int) -> int | None:
    """A string such as ``"0x3"`` of at most ``bits`` bits, or the word ``"any"``."""
    digits = bits // 4
    text = table.value(key, str, want='"any" or a number such as "0x3"')
    if text is None or text == "any":
        return None
    if not re.fullmatch(rf"0x[0-9a-fA-F]{{1,{digits}}}", text):
        table.problem(key, f'got "{text[:40]}", want "any" or "0x0".."0x{2**bits - 1:x}"')
        return 0
    return int(text, 16)


def masked(table: Table, key: str, bits: int) -> tuple[int, int] | None:
    """``"value/mask"``, both as for :func:`number`, or the word ``"any"``. No bit of the value is outside the mask."""
    text = table.value(key, str, want='"any" or "0x…/0x…" (value and mask)')
    if text is None or text == "any":
        return None
    match = re.fullmatch(rf"0x([0-9a-fA-F]{{1,{bits // 4}}})/0x([0-9a-fA-F]{{1,{bits // 4}}})", text)
    value, mask = (int(match[1], 16), int(match[2], 16)) if match else (1, 0)
    if value & ~mask or not mask:
        table.problem(key, f'got "{text[:50]}", want "any" or "0x…/0x…": a value and the mask of the bits compared')
    return value, mask


def day(table: Table, key: str) -> date | None:
    """A date written ``"2026-12-31"`` (or TOML's own date without quotes)."""
    value = table.value(key, object, want='a date such as "2026-12-31"')
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
            return date.fromisoformat(value)
    except ValueError:
        pass  # no such day: said below
    if value is not None:
        table.problem(key, f'got {str(value)[:40]!r}, want a date such as "2026-12-31"')
    return None


def hex_value(table: Table, key: str, length: int) -> bytes:
    """``length`` bytes in hexadecimal."""
    text = table.value(key, str, want=f"{2 * length} hex digits")
    return b"" if text is None else _unhex(table, key, text, (length,))


def one_hex(table: Table, key: str, length: int, word: str = "ignore") -> bytes | None:
    """``length`` bytes in hexadecimal, or ``word``."""
    text = table.value(key, str, want=f'"{word}" or {2 * length} hex digits')
    if text is None or text == word:
        return None
    return _unhex(table, key, text, (length,))


def hex_list(
    table: Table, key: str, lengths: tuple[int, ...], *, any_allowed: bool = True, zero: bool = False
) -> tuple[bytes, ...] | None:
    """A list of hex strings, or the word ``"any"``; ``()`` after a problem, so that nothing is accepted by mistake.

    With ``zero`` the word ``"zero"`` stands for the one value of zero bytes.
    """
    if any_allowed and word_is(table, key, "any"):
        return None
    if zero and word_is(table, key, "zero"):
        return (bytes(lengths[0]),)
    if not isinstance(table.value(key, object, []), list):
        words = (['"any"'] if any_allowed else []) + (['"zero"'] if zero else [])
        table.problem(key, f"want {' or '.join([*words, 'a list of hex strings'])}")
        return ()
    return tuple(_unhex(table, key, text, lengths) for text in table.strings(key))


def word_is(table: Table, key: str, word: str) -> bool:
    """Whether the author wrote ``word`` at ``key``."""
    return table.has(key) and table.value(key, object) == word


def text_list(table: Table, key: str, *, most: int = 4096) -> tuple[str, ...] | None:
    """A list of printable strings, or the word ``"any"``."""
    if word_is(table, key, "any"):
        return None
    found = table.strings(key)
    for text in found:
        if not text or len(text) > most or not text.isprintable():
            table.problem(key, f"got {text[:40]!r}, want printable text of 1..{most} characters")
    return found


def _unhex(table: Table, key: str, text: str, lengths: tuple[int, ...]) -> bytes:
    wanted = " or ".join(str(2 * length) for length in lengths)
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2})*", text) or len(text) // 2 not in lengths:
        table.problem(key, f'got "{text[:40]}", want {wanted} hex digits')
        return b""
    return bytes.fromhex(text)
