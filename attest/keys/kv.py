"""Secrets kept in the KV engine, version 2, of OpenBao or Vault: where one is, and reading it.

The service stores the place, sealed like any value, and reads the secret anew for each release. A place may pin a
version; without one the newest counts. A version that was deleted, destroyed or never there is no value, and neither is
a field that is missing or no text.

Source: the API documentation of OpenBao, "KV secrets engine - version 2".
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from attest.keys.errors import KeyFileRefused
from attest.keys.vault import Vault, VaultUnavailable
from attest.keys.vault_settings import mount_path
from policy.secret import SecretBytes

SOURCE = "kv"
MAX_VALUE = 64 * 1024
_PATH = re.compile(r"[A-Za-z0-9_.@-]{1,120}(?:/[A-Za-z0-9_.@-]{1,120}){0,15}")
_FIELD = re.compile(r"[\x21-\x7e]{1,120}")


@dataclass(frozen=True, slots=True)
class KvPlace:
    """``field`` of the secret at ``path`` in the engine at ``mount``. ``encoded``: the field is base64 of the value."""

    mount: str
    path: str
    field: str
    version: int | None = None
    encoded: bool = False

    def __str__(self) -> str:
        pinned = "" if self.version is None else f" version {self.version}"
        return f"{self.mount}/{self.path}{pinned}"

    def to_bytes(self) -> bytes:
        """As it is stored."""
        return json.dumps(asdict(self), sort_keys=True).encode()


def kv_place(mount: str, path: str, field: str, version: int | None, *, encoded: bool) -> KvPlace:
    """Raises KeyFileRefused for what cannot be a place."""
    mount_path(mount, "KV mount")
    if not _PATH.fullmatch(path) or any(set(part) == {"."} for part in path.split("/")):
        raise KeyFileRefused(f"KV path: got {path[:80]!r}, want names of letters, digits and _.@- between slashes")
    if not _FIELD.fullmatch(field) or (version is not None and not 0 < version < 2**31):
        raise KeyFileRefused("KV place: want a field's name in printable ASCII and a version from 1")
    return KvPlace(mount, path, field, version, encoded)


def stored_place(data: SecretBytes) -> KvPlace:
    """A place as it was stored."""
    return KvPlace(**json.loads(data.reveal()))


def read_secret(vault: Vault, place: KvPlace) -> SecretBytes:
    """The value of now. Raises VaultUnavailable; code ``vault.no-secret`` where there is none."""
    pinned = "" if place.version is None else f"?version={place.version}"
    answer = vault.ask("GET", f"{place.mount}/data/{quote(place.path)}{pinned}")
    if answer.status != 200:
        raise _no_secret(place, _gone(answer.data.get("metadata")))
    fields = answer.data.get("data")
    text = fields.get(place.field) if isinstance(fields, dict) else None
    if not isinstance(text, str):
        raise _no_secret(place, f"field {place.field!r} is missing, or no text")
    try:
        value = base64.b64decode(text, validate=True) if place.encoded else text.encode()
    except ValueError:
        raise _no_secret(place, f"field {place.field!r} is no base64") from None
    if not 0 < len(value) <= MAX_VALUE:
        raise _no_secret(place, f"field {place.field!r} has {len(value)} bytes, want 1 to {MAX_VALUE}")
    return SecretBytes(value)


def _gone(metadata: Any) -> str:
    """Why there is nothing, from what the server says of the version."""
    found = metadata if isinstance(metadata, dict) else {}
    if found.get("destroyed") is True:
        return "was destroyed"
    return "was deleted" if found.get("deletion_time") else "is not there"


def _no_secret(place: KvPlace, why: str) -> VaultUnavailable:
    return VaultUnavailable(f"secret {place}: {why}", code="vault.no-secret")
