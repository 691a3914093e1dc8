"""Fields of evidence in lines of at most 100 columns: byte strings, named bits, words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

LABEL = 22
_DIGITS = 96
_COLUMNS = 100

NamedBits = Sequence[tuple[int, str, str]]
"""Bit, name, meaning when set."""


def word_line(name: str, value: str) -> str:
    """``name  value`` in two columns."""
    return f"  {name:<{LABEL}} {value}"


def byte_lines(name: str, value: bytes, meaning: str = "") -> Iterator[str]:
    """A byte string in hexadecimal, on lines of its own where it is long; zeros are said in words."""
    if not any(value):
        yield word_line(name, "zero" + (f"   {meaning}" if meaning else ""))
        return
    text = value.hex()
    if len(text) + len(meaning) + LABEL + 6 <= _COLUMNS:
        yield word_line(name, text + (f"   {meaning}" if meaning else ""))
        return
    yield word_line(name, meaning)
    width = _DIGITS if len(text) <= _DIGITS else _DIGITS // 3 * 2
    yield from (f"    {text[start : start + width]}" for start in range(0, len(text), width))


def bit_lines(value: int, names: NamedBits, known: int) -> Iterator[str]:
    """Every named bit with its value, then those that are set and have no name."""
    for index, name, meaning in names:
        yield f"  {name:<{LABEL}} {value >> index & 1}   {meaning}"
    for index in set_bits(value & ~known):
        yield f"  {f'bit {index}':<{LABEL}} 1   UNDEFINED: this release has no name for it"


def named_bits(value: int, names: NamedBits) -> dict[str, object]:
    """The same for JSON."""
    return {name: bool(value >> index & 1) for index, name, _ in names}


def set_bits(value: int) -> list[int]:
    """Indices of the bits that are set, lowest first."""
    return [index for index in range(value.bit_length()) if value >> index & 1]
