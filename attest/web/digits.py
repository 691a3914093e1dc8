"""Numbers as requests write them."""

from __future__ import annotations


def digits(text: str, most: int = 15) -> int | None:
    """The number that ``text`` is in at most so many ASCII digits; ``None`` where it is none: no sign, no space."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= most else None
