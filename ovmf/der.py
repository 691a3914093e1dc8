"""The few things of DER a PKCS#7 signature needs: elements with definite lengths, nothing behind them."""

from __future__ import annotations

from typing import NamedTuple

from ovmf.errors import PeMalformed

_MAX_ELEMENTS = 256


class Element(NamedTuple):
    """``tag``: one byte; ``whole``: header and value; ``value``: the value alone."""

    tag: int
    whole: bytes
    value: bytes


def elements(data: bytes) -> list[Element]:
    """All elements of ``data`` one after the other, or :class:`PeMalformed`: cut off, long tags or lengths."""
    found: list[Element] = []
    at = 0
    while at < len(data):
        if len(found) == _MAX_ELEMENTS:
            raise PeMalformed(f"signature: more than {_MAX_ELEMENTS} elements in one")
        start, size = _length(data, at)
        if data[at] & 0x1F == 0x1F or start + size > len(data):
            raise PeMalformed(f"signature: element 0x{data[at]:02x} of {size} bytes in {len(data) - at}")
        found.append(Element(data[at], data[at : start + size], data[start : start + size]))
        at = start + size
    return found


def first(data: bytes, what: str) -> Element:
    """The element ``data`` starts with; nothing but the padding of a multiple of 8 bytes, zeros, may follow."""
    start, size = _length(data, 0)
    end = start + size
    if not 0 <= len(data) - end < 8 or any(data[end:]):
        raise PeMalformed(f"signature: {what}: got {len(data)} bytes, want {end} and at most 7 zeros behind them")
    return Element(data[0], data[:end], data[start:end])


def _length(data: bytes, at: int) -> tuple[int, int]:
    """(where the value starts, its size)."""
    first = data[at + 1] if at + 1 < len(data) else 0x80
    if first < 0x80:
        return at + 2, first
    count = first & 0x7F
    raw = data[at + 2 : at + 2 + count]
    size = int.from_bytes(raw, "big")
    if not 1 <= count <= 4 or len(raw) != count or size < 0x80 or raw[0] == 0:
        raise PeMalformed("signature: a length that is not DER's shortest")
    return at + 2 + count, size


def fields(element: Element, tag: int, least: int, what: str) -> list[Element]:
    """What is inside ``element``, which must have this tag and at least so many parts."""
    inside = elements(element.value) if element.tag == tag else []
    if element.tag != tag or len(inside) < least:
        raise PeMalformed(
            f"signature: {what}: got tag 0x{element.tag:02x}, {len(inside)} parts, want 0x{tag:02x}, {least} or more"
        )
    return inside
