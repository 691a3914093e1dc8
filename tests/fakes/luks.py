"""LUKS2 headers made by hand: of the agent's profile, or with one thing changed.

Independent of the agent's reader: written from the on-disk format specification with plain ``struct``.
"""

from __future__ import annotations

import hashlib
import json
import struct
from base64 import b64encode
from collections.abc import Callable
from typing import Any

HEADER_BYTES = 16384
MIB = 1 << 20
Json = dict[str, Any]


def metadata() -> Json:
    """The JSON of the profile."""
    some = b64encode(bytes(range(32))).decode()
    return {
        "keyslots": {
            "0": {
                "type": "luks2",
                "key_size": 64,
                "af": {"type": "luks1", "stripes": 4000, "hash": "sha256"},
                "area": {
                    "type": "raw",
                    "offset": "32768",
                    "size": "258048",
                    "encryption": "aes-xts-plain64",
                    "key_size": 64,
                },
                "kdf": {"type": "pbkdf2", "hash": "sha256", "iterations": 1000, "salt": some},
            }
        },
        "tokens": {},
        "segments": {
            "0": {
                "type": "crypt",
                "offset": str(16 * MIB),
                "size": "dynamic",
                "iv_tweak": "0",
                "encryption": "aes-xts-plain64",
                "sector_size": 4096,
            }
        },
        "digests": {
            "0": {
                "type": "pbkdf2",
                "keyslots": ["0"],
                "segments": ["0"],
                "hash": "sha256",
                "iterations": 1000,
                "salt": some,
                "digest": some,
            }
        },
        "config": {"json_size": str(HEADER_BYTES - 4096), "keyslots_size": str(16 * MIB - 2 * HEADER_BYTES)},
    }


def changed(change: Callable[[Json], object]) -> bytes:
    """A header whose JSON went through ``change``, checksums correct."""
    document = metadata()
    change(document)
    return header(json.dumps(document, separators=(",", ":")).encode())


def header(text: bytes | None = None, second: bytes | None = None, **fields: Any) -> bytes:
    """Both copies around JSON ``text`` (``second``: another text in the second copy), with correct checksums."""
    if text is None:
        text = json.dumps(metadata(), separators=(",", ":")).encode()
    first = one_copy(text, 0, b"LUKS\xba\xbe", **fields)
    return first + one_copy(text if second is None else second, HEADER_BYTES, b"SKUL\xba\xbe", **fields)


def one_copy(
    text: bytes,
    offset: int,
    magic: bytes,
    *,
    version: int = 2,
    size: int = HEADER_BYTES,
    sequence: int = 3,
    label: bytes = b"",
    algorithm: bytes = b"sha256",
    uuid: bytes = b"01234567-89ab-cdef-0123-456789abcdef",
    subsystem: bytes = b"",
    at: int | None = None,
    padding: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """One binary header and JSON area of 16 KiB."""
    head = struct.pack(
        ">6sHQQ48s32s64s40s48sQ184s64s",
        magic, version, size, sequence, label, algorithm, b"salt" * 16, uuid, subsystem,
        offset if at is None else at, padding, b"",
    )  # fmt: skip
    data = head.ljust(4096, b"\0") + text.ljust(HEADER_BYTES - 4096, b"\0")
    digest = hashlib.sha256(data).digest() if checksum is None else checksum
    return data[:448] + digest.ljust(64, b"\0") + data[512:]
