"""A file that only who has a master key can read, and nobody else can make: what backups are written into.

Layout: the line ``attest-archive-1``, one line of JSON (the header: what the caller says, which master key, the data
key wrapped under it), then the content in pieces of 64 KiB, each AES-256-GCM under the data key. A piece's nonce is its
number (11 bytes, big-endian) and one byte that is 1 for the last: what was cut, continued or reordered does not open.
Every piece authenticates the header as it stands in the file. The data key is used for this one file.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from io import BufferedReader
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from attest.keys.context import context
from attest.keys.errors import SealBroken
from attest.keys.master import KEY_BYTES, MasterKeys
from policy.secret import SecretBytes

MAGIC = b"attest-archive-1\n"
PIECE = 64 * 1024
TAG = 16
MAX_HEADER = 16 * 1024
_OWN = ("master_key_id", "wrapped_key")


class ArchiveWriter:
    """Write content, then :meth:`close`; without that the file does not open. ``file`` stays the caller's."""

    def __init__(self, file: BinaryIO, keys: MasterKeys, header: Mapping[str, object]) -> None:
        data_key = SecretBytes(os.urandom(KEY_BYTES))
        key_id = keys.newest
        wrapped = keys.get(key_id).wrap(data_key, context("cvm.archive.data-key/1", key_id))
        members = {**header, "master_key_id": key_id, "wrapped_key": base64.b64encode(wrapped).decode()}
        self._head = MAGIC + json.dumps(members, separators=(",", ":")).encode() + b"\n"
        self._file = file
        self._cipher = AESGCM(data_key.reveal())
        data_key.wipe()
        self._waiting = bytearray()
        self._number = 0
        file.write(self._head)

    def write(self, data: bytes) -> int:
        """Append; a full piece goes out only when more follows, because the last one is marked."""
        self._waiting += data
        while len(self._waiting) > PIECE:
            self._put(bytes(self._waiting[:PIECE]), last=False)
            del self._waiting[:PIECE]
        return len(data)

    def flush(self) -> None:
        """Nothing: pieces go out when they are full."""

    def close(self) -> None:
        """The last piece."""
        self._put(bytes(self._waiting), last=True)

    def _put(self, piece: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number, last), piece, self._head))
        self._number += 1


class ArchiveReader:
    """Reads what :class:`ArchiveWriter` wrote. What :meth:`read` returns is authentic; that nothing is missing at the
    end is known only after :meth:`finish`.
    """

    def __init__(self, file: BufferedReader, name: str) -> None:
        self._name = name
        self._file = file
        magic, line = file.readline(len(MAGIC)), file.readline(MAX_HEADER)
        if magic != MAGIC or not line.endswith(b"\n"):
            raise SealBroken(f"{name}: no archive of this program, want {MAGIC.decode().strip()!r} first")
        self._head = magic + line
        self.header: dict[str, Any] = _header(line, name)
        """As the file says. Nothing of it is proven before the first piece was read."""
        self._cipher: AESGCM | None = None
        self._held = b""
        self._number = 0
        self._done = False

    def open(self, keys: MasterKeys) -> None:
        """Unwrap the data key. Raises SealBroken where the master key is another or the header was changed."""
        key_id = self.header["master_key_id"]
        bound_to = context("cvm.archive.data-key/1", key_id)
        data_key = keys.get(key_id).unwrap(self.header["wrapped_key"], bound_to, self._name)
        self._cipher = AESGCM(data_key.reveal())
        data_key.wipe()

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, fewer only at the end. Raises SealBroken at the first piece that was changed."""
        parts = []
        while size and (self._held or not self._done):
            if not self._held:
                self._held = self._next()
            part, self._held = (self._held, b"") if size < 0 else (self._held[:size], self._held[size:])
            parts.append(part)
            size -= len(part) if size > 0 else 0
        return b"".join(parts)

    def finish(self) -> None:
        """Read to the end. Raises SealBroken where the end is missing or something follows it."""
        while not self._done:
            self._next()

    def _next(self) -> bytes:
        if self._cipher is None:
            raise TypeError("an archive that was not opened")
        sealed = self._file.read(PIECE + TAG)
        self._done = not self._file.peek(1)
        try:
            piece = self._cipher.decrypt(_nonce(self._number, self._done), sealed, self._head)
        except (InvalidTag, ValueError):
            raise SealBroken(
                f"{self._name}: altered or cut off at byte {self._number * PIECE} of its content"
            ) from None
        self._number += 1
        return piece


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _header(line: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
        wrapped = base64.b64decode(found["wrapped_key"], validate=True)
        key_id = found["master_key_id"]
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError):
        raise SealBroken(f"{name}: its header is no JSON object with {' and '.join(_OWN)}") from None
    if not isinstance(key_id, str):
        raise SealBroken(f"{name}: its header's master_key_id is no text")
    return {**found, "wrapped_key": wrapped}
