"""Bytes that were written down as text: hexadecimal or base64, with white space anywhere; and compressed ones.

Reports, blobs and certificates are pasted into files, tickets and JSON in these forms. Nothing is believed for its
spelling: what the text spells is parsed and verified like any other bytes. Source: RFC 4648, sections 4, 5 and 8;
RFC 1952.
"""

from __future__ import annotations

import binascii
import re
import zlib

_HEX = re.compile(rb"(?:[0-9a-fA-F]{2})++")
_WHITE_SPACE = b" \t\r\n\v\f"
_BASE64 = re.compile(rb"[A-Za-z0-9+/]++|[A-Za-z0-9_-]++")
_GZIP_MAGIC, _GZIP_FRAME = b"\x1f\x8b", 31
_PLAIN_ALPHABET = bytes.maketrans(b"-_", b"+/")


def spelled_bytes(text: bytes) -> bytes | None:
    """What ``text`` spells as hexadecimal (with ``0x`` or without) or else base64 (either alphabet, padded or not);
    ``None`` where it is neither.
    """
    digits = text.translate(None, _WHITE_SPACE)
    bare = digits[2:] if digits[:2] in (b"0x", b"0X") else digits
    if _HEX.fullmatch(bare):
        return binascii.unhexlify(bare)
    digits = digits.rstrip(b"=")
    if len(digits) % 4 == 1 or not _BASE64.fullmatch(digits):
        return None
    return binascii.a2b_base64(digits.translate(_PLAIN_ALPHABET) + b"=" * (-len(digits) % 4))


def unzipped(data: bytes, limit: int) -> bytes:
    """What gzip made ``data`` of, at most ``limit`` bytes; ``data`` itself where it is broken, larger, or no gzip."""
    if not data.startswith(_GZIP_MAGIC):
        return data
    reader = zlib.decompressobj(_GZIP_FRAME)
    try:
        plain = reader.decompress(data, limit)
    except zlib.error:
        return data
    return plain if reader.eof and not reader.unused_data else data
