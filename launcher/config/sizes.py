"""Sizes as people write them: a whole number with a binary unit."""

from __future__ import annotations

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def parse_size(text: str) -> int | None:
    """``"4GiB"`` -> 4294967296; ``None`` for anything but digits and one of KiB, MiB, GiB, TiB (at most 2^53 bytes)."""
    digits, unit = text[:-3].rstrip(), UNITS.get(text[-3:])
    if unit is None or not (digits.isascii() and digits.isdigit()) or len(digits) > 9:
        return None
    size = int(digits) * unit
    return size if size <= 1 << 53 else None


def show_size(size: int) -> str:
    """The shortest exact form: 2147483648 -> ``2GiB``; bytes without a unit where no unit divides them."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % UNITS[unit] == 0:
            return f"{size // UNITS[unit]}{unit}"
    return str(size)
