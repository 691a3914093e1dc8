"""Master keys: what every stored resource's own key is wrapped under.

The file is text, one key a line, oldest first, each of one of these kinds::

    cvm-master-key-1 <44 base64 characters>
    transit-1 {"connection": "vault.toml", "mount": "transit", "key": "cvm"}
    pkcs11-1 {"module": "/usr/lib/softhsm/libsofthsm2.so", "token": "LABEL", "key": "LABEL", "pin_file": "hsm.pin"}

The last line is the key new values are sealed under; earlier lines still open what was sealed under them, so a key is
rotated by adding a line and, when ``attest key rewrap`` has wrapped everything anew, removing the old one. The file is
looked at again once a second at most and whenever an unknown key is asked for: no restart. A file that cannot be read
then leaves the keys as they were, and says so in the log.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attest.keys.errors import KeyFileRefused, SealBroken
from attest.keys.files import read_private
from attest.keys.wrapping import LocalKey, WrappingKey
from policy.secret import SecretBytes

if TYPE_CHECKING:
    from attest.keys.token_key import TokenKey
    from attest.keys.transit_key import TransitKey

KEY_BYTES = 32
LOOK_SECONDS = 1.0
_WORD = "cvm-master-key-1"
_TOKEN_WORD = "pkcs11-1"  # noqa: S105  # a word of the file
_TOKEN_MEMBERS = ("module", "token", "key", "pin_file")
_TRANSIT_WORD = "transit-1"
_TRANSIT_MEMBERS = ("connection", "mount", "key")
_log = logging.getLogger("attest.keys")


class MasterKeys:
    """The keys of one file, or those given. Safe to make before a fork. ``clock`` is a monotonic one, in seconds."""

    def __init__(
        self,
        keys: Sequence[SecretBytes | WrappingKey],
        path: Path | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._clock = clock
        self._looked = clock()
        self._signature = _signature(path)
        self._keys = _by_id(keys)

    @property
    def newest(self) -> str:
        """The id new values are sealed under."""
        self._look()
        return next(reversed(self._keys))

    def ids(self) -> tuple[str, ...]:
        """Of every key, the newest last."""
        self._look()
        return tuple(self._keys)

    @property
    def remote(self) -> bool:
        """Whether any of the keys takes a network to use."""
        self._look()
        return any(key.remote for key in self._keys.values())

    def get(self, key_id: str) -> WrappingKey:
        """The key of that id. Raises SealBroken if it is not in the file."""
        if key_id not in self._keys:
            self._look(now=True)
        try:
            return self._keys[key_id]
        except KeyError:
            raise SealBroken(f"master key {key_id}: not in the master key file") from None

    def _look(self, *, now: bool = False) -> None:
        if self._path is None or (not now and self._clock() - self._looked < LOOK_SECONDS):
            return
        self._looked = self._clock()
        try:
            signature = _signature(self._path)
            if signature != self._signature:
                found = _by_id(_read(self._path))
                # A key that is known already stays the object it is: a token's has a session open.
                self._keys = {key_id: self._keys.get(key_id, key) for key_id, key in found.items()}
                self._signature = signature
        except KeyFileRefused as exc:
            _log.error("master keys not read again, the known ones stay: %s", exc.message)


def load_master_keys(path: Path) -> MasterKeys:
    """Read a master key file; see :func:`attest.keys.files.read_private` for who may be able to read it."""
    return MasterKeys(_read(path), path)


def master_key_line(key: SecretBytes) -> bytes:
    """The line of the file for ``key``."""
    return f"{_WORD} {base64.b64encode(key.reveal()).decode()}\n".encode()


def _read(path: Path) -> list[WrappingKey]:
    lines = read_private(path).decode("ascii", "replace").splitlines()
    return [_parse(line, f"master key file {path}: line {number}", path) for number, line in enumerate(lines, 1)]


def _parse(line: str, where: str, path: Path) -> WrappingKey:
    word, _, rest = line.partition(" ")
    if word == _TRANSIT_WORD:
        return _transit(rest, where, path)
    return _token(rest, where, path) if word == _TOKEN_WORD else _local(word, rest, where)


def _local(word: str, encoded: str, where: str) -> WrappingKey:
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if word != _WORD or len(key) != KEY_BYTES:
        raise KeyFileRefused(
            f"{where}: want {_WORD!r} and {KEY_BYTES} bytes in base64, or {_TOKEN_WORD!r} or {_TRANSIT_WORD!r} and JSON"
        )
    return LocalKey(SecretBytes(key))


def token_line(data: bytes, path: Path) -> tuple[str, TokenKey]:
    """A token key's JSON object as the line of a master key file, and the key. Raises KeyFileRefused."""
    text = " ".join(data.decode("ascii", "replace").split())
    return f"{_TOKEN_WORD} {text}", _token(text, str(path), path)


def transit_line(data: bytes, path: Path) -> tuple[str, TransitKey]:
    """A Transit key's JSON object as the line of a master key file, and the key. Raises KeyFileRefused."""
    text = " ".join(data.decode("ascii", "replace").split())
    return f"{_TRANSIT_WORD} {text}", _transit(text, str(path), path)


def _token(text: str, where: str, path: Path) -> TokenKey:
    found = _members(text, where, _TOKEN_MEMBERS)
    from attest.keys.token_key import TokenKey, TokenPlace  # its library is an extra

    pin_file = path.parent / found["pin_file"]
    return TokenKey(TokenPlace(path.parent / found["module"], found["token"], found["key"], pin_file))


def _transit(text: str, where: str, path: Path) -> TransitKey:
    found = _members(text, where, _TRANSIT_MEMBERS)
    from attest.keys.transit_key import TransitKey, TransitPlace  # who has no such server loads no client
    from attest.keys.vault import Vault
    from attest.keys.vault_settings import load_vault_settings, mount_path

    place = TransitPlace(mount_path(found["mount"], where), mount_path(found["key"], where))
    return TransitKey(Vault(load_vault_settings(path.parent / found["connection"])), place)


def _members(text: str, where: str, names: tuple[str, ...]) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    members = ", ".join(names)
    if not isinstance(found, dict) or set(found) != set(names):
        raise KeyFileRefused(f"{where}: want a JSON object with {members}")
    if not all(isinstance(value, str) and value for value in found.values()):
        raise KeyFileRefused(f"{where}: want text for each of {members}")
    return found


def _by_id(keys: Sequence[SecretBytes | WrappingKey]) -> dict[str, WrappingKey]:
    if not keys or any(isinstance(key, SecretBytes) and len(key) != KEY_BYTES for key in keys):
        raise KeyFileRefused(f"master keys: want at least one, each of {KEY_BYTES} bytes")
    made = [LocalKey(key) if isinstance(key, SecretBytes) else key for key in keys]
    return {key.key_id: key for key in made}


def _signature(path: Path | None) -> tuple[int, int, int] | None:
    """What changes when the file is replaced or written."""
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError as exc:
        raise KeyFileRefused(f"master key file {path}: {exc.strerror}") from None
    return status.st_ino, status.st_size, status.st_mtime_ns
