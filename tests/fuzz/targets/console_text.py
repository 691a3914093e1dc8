"""Fuzz target: console bytes, in pieces, become lines and screens that cannot touch a terminal."""

from __future__ import annotations

from launcher.core.console import sign_of
from launcher.core.text import ConsoleFilter, LineSplitter


def one(data: bytes) -> None:
    """Feed one input; the first byte says how it is cut."""
    size = max(1, data[0]) if data else 1
    lines, screen = LineSplitter(limit=64), ConsoleFilter()
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        for line in lines.feed(piece):
            if not line.isprintable() or len(line) > 10 * 64:
                raise AssertionError(f"line {line!r}")
            sign_of(line)
        shown = screen.feed(piece).decode("utf-8")
        if not all(char.isprintable() or char in "\r\n\t\b\a" for char in shown):
            raise AssertionError(f"screen {shown!r}")
