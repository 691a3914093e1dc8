"""The build id of an ELF program: what its linker wrote there, different for every build.

Source: System V ABI, chapter 5 (program header, note section); ``ld --build-id``. 64-bit little-endian only. Reads a
few hundred bytes of the file: a launch asks each time.
"""

from __future__ import annotations

import os
from struct import error as struct_error
from struct import unpack_from

_PT_NOTE, _GNU_BUILD_ID = 4, 3
_HEADER, _MOST_HEADERS, _MOST_NOTES = 64, 64 * 56, 4096


def build_id(path: str) -> str:
    """Lower-case hex; empty for a file that is no such ELF or has none. Raises OSError where it cannot be read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = os.pread(descriptor, _HEADER, 0)
        if head[:6] != b"\x7fELF\x02\x01":
            return ""
        table, size, count = (unpack_from("<Q", head, 0x20)[0], *unpack_from("<HH", head, 0x36))
        headers = os.pread(descriptor, min(size * count, _MOST_HEADERS), table)
        for at in range(0, len(headers), size):
            kind, _, start, _, _, length = unpack_from("<IIQQQQ", headers, at)
            found = "" if kind != _PT_NOTE else _in_notes(os.pread(descriptor, min(length, _MOST_NOTES), start))
            if found:
                return found
    except (struct_error, ValueError, OverflowError):
        return ""  # cut off, or offsets past the end: nothing to tell builds apart by
    finally:
        os.close(descriptor)
    return ""


def _in_notes(notes: bytes) -> str:
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = unpack_from("<III", notes, at)
        name = notes[at + 12 : at + 12 + name_size]
        start = at + 12 + (name_size + 3 & ~3)
        if kind == _GNU_BUILD_ID and name == b"GNU\0":
            return notes[start : start + size].hex()
        at = start + (size + 3 & ~3)
    return ""
