"""Bytes of an event as printable text that people and rules can rely on: different bytes give different text."""

from __future__ import annotations

import hashlib

from ovmf.guid import guid_text


def shown(text: str) -> str:
    """``text`` with everything unprintable as ``\\xNN``, ``\\uNNNN`` or ``\\UNNNNNNNN``; a backslash stays as it is."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def exact(text: str) -> str:
    """As :func:`shown`, and a backslash doubled, so that no two texts look alike."""
    return shown(text.replace("\\", "\\\\")) if "\\" in text else shown(text)


def text_of(data: bytes) -> str:
    """UTF-8 as :func:`exact` text; bytes that are not UTF-8 as ``\\xNN``."""
    return shown(data.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace"))


def utf16_of(data: bytes) -> str:
    """UTF-16LE of an even length as :func:`exact` text; unpaired surrogates as ``\\uNNNN``."""
    return exact(data.decode("utf-16-le", "surrogatepass"))


def short_hex(data: bytes, limit: int = 32) -> str:
    """Hexadecimal digits; beyond ``limit`` bytes the beginning, the length and the SHA-256, so that none look alike."""
    if len(data) <= limit:
        return data.hex()
    return f"{data[:8].hex()}… ({len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()})"


def guid(raw: bytes) -> str:
    """A GUID's text, upper case as the UEFI specification writes device paths."""
    return guid_text(raw).upper()


def _escaped(char: str) -> str:
    point = ord(char)
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
