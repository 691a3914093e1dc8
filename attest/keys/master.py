"""Master keys: what every stored resource's own key is wrapped under.

The file is text, one key a line, oldest first: ``cvm-master-key-1 <44 base64 characters>``. The last line is the key
new values are sealed under; earlier lines still open what was sealed under them, so a key is rotated by adding a
line. A key is named by the first 8 bytes of HMAC-SHA-256(key, label), which says nothing about the key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from pathlib import Path

from attest.keys.context import context
from attest.keys.errors import KeyFileRefused, SealBroken
from attest.keys.files import read_private
from policy.secret import SecretBytes

KEY_BYTES = 32
_WORD = "cvm-master-key-1"


class MasterKeys:
    """The keys of one file. ``newest`` is the id new values are sealed under."""

    __slots__ = ("_keys", "newest")

    def __init__(self, keys: tuple[SecretBytes, ...]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise KeyFileRefused(f"master keys: want at least one, each of {KEY_BYTES} bytes")
        self._keys = {_key_id(key): key for key in keys}
        self.newest = _key_id(keys[-1])

    def get(self, key_id: str) -> SecretBytes:
        """The key of that id. Raises SealBroken if it is not in the file."""
        try:
            return self._keys[key_id]
        except KeyError:
            raise SealBroken(f"master key {key_id}: not in the master key file") from None


def load_master_keys(path: Path) -> MasterKeys:
    """Read a master key file; see :func:`attest.keys.files.read_private` for who may be able to read it."""
    keys = []
    for number, line in enumerate(read_private(path).decode("ascii", "replace").splitlines(), 1):
        word, _, encoded = line.partition(" ")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if word != _WORD or len(key) != KEY_BYTES:
            raise KeyFileRefused(
                f"master key file {path}: line {number}: want {_WORD!r} and {KEY_BYTES} bytes in base64"
            )
        keys.append(SecretBytes(key))
    return MasterKeys(tuple(keys))


def master_key_line(key: SecretBytes) -> bytes:
    """The line of the file for ``key``."""
    return f"{_WORD} {base64.b64encode(key.reveal()).decode()}\n".encode()


def _key_id(key: SecretBytes) -> str:
    return hmac.new(key.reveal(), context("cvm.master-key-id/1"), hashlib.sha256).digest()[:8].hex()
