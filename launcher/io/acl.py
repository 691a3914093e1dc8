"""Give one user access to one file by a POSIX access control list, and take it back.

The binary form is the kernel's (``linux/posix_acl_xattr.h``): u32 version 2, then per entry u16 tag, u16 permissions,
u32 id, little-endian, sorted by tag and id. The file's owner and mode stay as they were (the group bits show the mask).
"""

from __future__ import annotations

import os
import struct

_NAME = "system.posix_acl_access"
_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32
_NO_ID = 0xFFFFFFFF
_ENTRY = struct.Struct("<HHI")
Entry = tuple[int, int, int]


def grant(path: str, uid: int, permissions: int) -> None:
    """Let ``uid`` have ``permissions`` (4 read, 2 write, 1 execute). Raises OSError."""
    entries = [entry for entry in _read(path) if entry[:1] + entry[2:] != (_USER, uid)]
    entries.append((_USER, permissions, uid))
    _write(path, entries)


def revoke(path: str, uid: int) -> None:
    """Take it back. Raises OSError."""
    _write(path, [entry for entry in _read(path) if entry[:1] + entry[2:] != (_USER, uid)])


def _read(path: str) -> list[Entry]:
    """Every entry with what it lets through: a mask may have taken some of it away, and a wider one must not give it
    back.
    """
    try:
        found = list(_ENTRY.iter_unpack(os.getxattr(path, _NAME)[4:]))
        mask = next((permissions for tag, permissions, _ in found if tag == _MASK), 7)
        masked = (_USER, _GROUP_OBJ, _GROUP)
        return [(tag, bits & mask if tag in masked else bits, who) for tag, bits, who in found if tag != _MASK]
    except OSError:  # none yet: the mode says it all
        mode = os.stat(path).st_mode
        return [(_USER_OBJ, mode >> 6 & 7, _NO_ID), (_GROUP_OBJ, mode >> 3 & 7, _NO_ID), (_OTHER, mode & 7, _NO_ID)]


def _write(path: str, entries: list[Entry]) -> None:
    named = [entry for entry in entries if entry[0] in (_USER, _GROUP)]
    if named:
        mask = 0
        for tag, permissions, _ in entries:
            mask |= permissions if tag in (_USER, _GROUP_OBJ, _GROUP) else 0
        entries = [*entries, (_MASK, mask, _NO_ID)]
    ordered = sorted(entries, key=lambda entry: (entry[0], entry[2]))
    os.setxattr(path, _NAME, struct.pack("<I", _VERSION) + b"".join(_ENTRY.pack(*entry) for entry in ordered))
