"""GCTX.LD: how the SNP firmware folds launched pages into one digest.

LD starts as 48 zero bytes; each page makes it SHA-384 of the 112-byte PAGE_INFO {LD 48, contents 48, length u16 = 112,
page type u8, IMI u8, VMPL permissions 4 bytes, gpa u64}, little-endian. ``contents`` is the SHA-384 of the page for
NORMAL and VMSA pages and zero for the rest: those bind type and address only. Permissions and IMI are zero with every
VMM. Source: SEV-SNP Firmware ABI (AMD publication 56860), 8.17.2 and table 67.
"""

from __future__ import annotations

from hashlib import sha384
from struct import Struct

NORMAL, VMSA, ZERO, UNMEASURED, SECRETS, CPUID = 1, 2, 3, 4, 5, 6

START = bytes(48)
"""LD before the first page."""

_PAGE_INFO = Struct("<48s48sHBBIQ").pack
_NOTHING = bytes(48)


def extend(state: bytes, page_type: int, gpa: int, contents: bytes = _NOTHING) -> bytes:
    """LD after one page; ``contents`` is a SHA-384, zeros where the type's contents are not measured."""
    return sha384(_PAGE_INFO(state, contents, 112, page_type, 0, 0, gpa)).digest()


def tail(page_type: int, gpa: int, contents: bytes = _NOTHING) -> bytes:
    """PAGE_INFO without LD: LD after the page is SHA-384 of LD before it and this. For pages measured many times."""
    return _PAGE_INFO(START, contents, 112, page_type, 0, 0, gpa)[48:]


def extend_range(state: bytes, page_type: int, gpa: int, size: int) -> bytes:
    """LD after the pages of a range whose contents are not measured; ``size`` in bytes, whole pages."""
    for address in range(gpa, gpa + size, 4096):
        state = extend(state, page_type, address)
    return state


def extend_normal(state: bytes, gpa: int, data: bytes | memoryview) -> bytes:
    """LD after NORMAL pages holding ``data``, whose length is a multiple of 4096."""
    pack, digest, nothing = _PAGE_INFO, sha384, 0
    view = memoryview(data)
    for offset in range(0, len(data), 4096):
        contents = digest(view[offset : offset + 4096]).digest()
        state = digest(pack(state, contents, 112, NORMAL, nothing, nothing, gpa + offset)).digest()
    return state
