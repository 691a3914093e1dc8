"""The few pieces of DER this package reads itself. Exact: one encoding per value, no bytes left over.

Source: ITU-T X.690 (02/2021), sections 8.1, 8.3 and 10.1. Everything larger is read by ``cryptography``.
"""

from __future__ import annotations

from attest.evidence.errors import EvidenceMalformed

SEQUENCE = 0x30
_INTEGER, _IA5_STRING, _OCTET_STRING = 0x02, 0x16, 0x04


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


def _exact(data: bytes, tag: int, word: str, what: str) -> bytes:
    got, content, end = read_element(data, 0, what)
    if got != tag or end != len(data):
        raise EvidenceMalformed(f"{what}: got {data[:16].hex()} ({len(data)} bytes), want exactly one {word}")
    return content


def exact_integer(data: bytes, what: str, *, maximum: int) -> int:
    """``data`` is one INTEGER from 0 to ``maximum``."""
    content = _exact(data, _INTEGER, "INTEGER", what)
    value = int.from_bytes(content, "big", signed=True)
    minimal = len(content) == 1 or (len(content) > 1 and not (content[0] == 0 and content[1] < 0x80))
    if not minimal or not 0 <= value <= maximum:
        raise EvidenceMalformed(f"{what}: got INTEGER {content[:16].hex()}, want 0..{maximum} in its shortest form")
    return value


def exact_ia5(data: bytes, what: str) -> str:
    """``data`` is one IA5String of printable characters."""
    content = _exact(data, _IA5_STRING, "IA5String", what)
    if not content or not all(0x20 <= byte < 0x7F for byte in content):
        raise EvidenceMalformed(f"{what}: got IA5String {content[:32].hex()}, want printable ASCII")
    return content.decode("ascii")


def exact_octets(data: bytes, what: str) -> bytes:
    """``data`` is one OCTET STRING."""
    return _exact(data, _OCTET_STRING, "OCTET STRING", what)


def split_sequences(data: bytes, what: str) -> tuple[bytes, ...]:
    """Concatenated top-level SEQUENCEs (certificates or CRLs laid end to end), each with its header."""
    found = []
    offset = 0
    while offset < len(data):
        tag, _, end = read_element(data, offset, what)
        if tag != SEQUENCE:
            raise EvidenceMalformed(f"{what}: tag 0x{tag:02x} at 0x{offset:x}, want a SEQUENCE")
        found.append(data[offset:end])
        offset = end
    return tuple(found)
