"""The few pieces of DER this package reads itself. Exact: one encoding per value, no bytes left over.

Source: ITU-T X.690 (02/2021), sections 8.1, 8.3 and 10.1. Everything larger is read by ``cryptography``.
"""

from __future__ import annotations

from attest.evidence.errors import EvidenceMalformed

SEQUENCE = 0x30
_INTEGER, _IA5_STRING, _OCTET_STRING = 0x02, 0x16, 0x04
_SMALL_INTEGER = b"\x02\x01"


def read_element(data: bytes, offset: int, what: str) -> tuple[int, bytes, int]:
    """Tag, content and end offset of the element at ``offset``; low tags and definite, minimal lengths only."""
    if len(data) - offset < 2:
        raise EvidenceMalformed(f"{what}: got {len(data) - offset} bytes at 0x{offset:x}, want a DER element")
    tag, first = data[offset], data[offset + 1]
    start, length = offset + 2, first
    if first >= 0x80:
        count = first & 0x7F
        digits = data[start : start + count]
        length = int.from_bytes(digits, "big")
        start += count
        if not 1 <= count <= 4 or len(digits) != count or digits[0] == 0 or length < 0x80:
            raise EvidenceMalformed(f"{what}: length at 0x{offset + 1:x} is not minimal DER")
    if tag & 0x1F == 0x1F or length > len(data) - start:
        raise EvidenceMalformed(
            f"{what}: element at 0x{offset:x} with {length} bytes leaves its {len(data)} byte frame"
        )
    return tag, data[start : start + length], start + length


def elements(data: bytes, what: str) -> list[bytes]:
    """All elements of ``data``, laid end to end, each with its header."""
    found, offset, size = [], 0, len(data)
    while offset < size:
        end = offset + 2 + data[offset + 1] if size - offset > 1 else 0
        # Short and simple, as nearly all are; anything else, errors too, is the careful reader's.
        if not offset < end <= size or data[offset + 1] >= 0x80 or data[offset] & 0x1F == 0x1F:
            _, _, end = read_element(data, offset, what)
        found.append(data[offset:end])
        offset = end
    return found


def content(element: bytes, what: str) -> bytes:
    """What is inside of one whole element."""
    return element[2:] if len(element) > 1 and element[1] == len(element) - 2 < 0x80 else _content(element, what)


def _content(element: bytes, what: str) -> bytes:
    _, inside, end = read_element(element, 0, what)
    if end != len(element):
        raise EvidenceMalformed(f"{what}: {len(element) - end} bytes follow the element of {end}, want none")
    return inside


def _exact(data: bytes, tag: int, word: str, what: str) -> bytes:
    if data[:1] != bytes([tag]):
        raise EvidenceMalformed(f"{what}: got {data[:16].hex()} ({len(data)} bytes), want exactly one {word}")
    return content(data, what)


def exact_integer(data: bytes, what: str, *, maximum: int) -> int:
    """``data`` is one INTEGER from 0 to ``maximum``."""
    if len(data) == 3 and data.startswith(_SMALL_INTEGER) and data[2] <= min(maximum, 0x7F):
        return data[2]  # nearly all are such
    digits = _exact(data, _INTEGER, "INTEGER", what)
    value = int.from_bytes(digits, "big", signed=True)
    minimal = len(digits) == 1 or (len(digits) > 1 and not (digits[0] == 0 and digits[1] < 0x80))
    if not minimal or not 0 <= value <= maximum:
        raise EvidenceMalformed(f"{what}: got INTEGER {digits[:16].hex()}, want 0..{maximum} in its shortest form")
    return value


def exact_ia5(data: bytes, what: str) -> str:
    """``data`` is one IA5String of printable characters."""
    text = _exact(data, _IA5_STRING, "IA5String", what)
    if not text or not all(0x20 <= byte < 0x7F for byte in text):
        raise EvidenceMalformed(f"{what}: got IA5String {text[:32].hex()}, want printable ASCII")
    return text.decode("ascii")


def exact_octets(data: bytes, what: str) -> bytes:
    """``data`` is one OCTET STRING."""
    return _exact(data, _OCTET_STRING, "OCTET STRING", what)


def split_sequences(data: bytes, what: str) -> tuple[bytes, ...]:
    """Concatenated top-level SEQUENCEs (certificates or CRLs laid end to end), each with its header."""
    found = elements(data, what)
    for one in found:
        if one[0] != SEQUENCE:
            raise EvidenceMalformed(f"{what}: tag 0x{one[0]:02x}, want SEQUENCEs only")
    return tuple(found)
