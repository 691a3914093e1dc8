"""A master key in the Transit engine of OpenBao or Vault: it never leaves the server, which wraps and unwraps.

What a data key is wrapped for goes along as associated data of the server's AES-256-GCM (or ChaCha20-Poly1305). A
server that passes that over would unwrap a data key for another resource, so each process looks once whether it does.
The version of the key that wrapped stands in the ciphertext (``vault:v3:…``): rotating it there needs no change here.

Source: the API documentation of OpenBao, "Transit secrets engine".
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from attest.keys.context import context
from attest.keys.errors import KeyFileRefused, SealBroken
from attest.keys.vault import Vault, VaultAnswer, VaultUnavailable
from attest.keys.wrapping import Random
from policy.secret import SecretBytes

TYPES = ("aes256-gcm96", "chacha20-poly1305")
LATEST_SECONDS = 5.0
_WRAPPED = re.compile(rb"vault:v([1-9][0-9]{0,8}):[A-Za-z0-9+/=]{1,400}")


@dataclass(frozen=True, slots=True)
class TransitPlace:
    """Where the engine is mounted, and the key's name."""

    mount: str
    key: str


class TransitKey:
    """A key of the engine. Safe to make before a fork."""

    remote = True

    def __init__(self, vault: Vault, place: TransitPlace, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._vault = vault
        self._place = place
        self._clock = clock
        self._proved = False
        self._latest = (0, float("-inf"))
        named = context("cvm.transit-key-id/1", vault.settings.namespace, place.mount, place.key)
        self.key_id = f"transit-{hashlib.sha256(named).digest()[:8].hex()}"

    def wrap(self, data_key: SecretBytes, bound_to: bytes, random: Random = os.urandom) -> bytes:
        """See :class:`attest.keys.wrapping.WrappingKey`."""
        self._prove(random)
        return self._encrypt(data_key, bound_to)

    def unwrap(self, wrapped: bytes, bound_to: bytes, what: str) -> SecretBytes:
        """See :class:`attest.keys.wrapping.WrappingKey`."""
        if not _WRAPPED.fullmatch(wrapped):
            raise SealBroken(f"{what}: does not open, the stored row is not what the key wrapped")
        answer = self._decrypt(wrapped, bound_to)
        if answer.status == 400 and "version" not in answer.reason:
            raise SealBroken(f"{what}: does not open, the stored row or its master key was changed")
        return SecretBytes(self._decoded(self._good(answer, "decrypt").data.get("plaintext")))

    def outdated(self, wrapped: bytes) -> bool:
        """Whether an older version of the key wrapped it than the newest."""
        match = _WRAPPED.fullmatch(wrapped)
        return match is None or int(match[1]) < self._newest()

    def check(self) -> None:
        """See :class:`attest.keys.wrapping.WrappingKey`."""
        self._vault.check()

    def inspect(self) -> None:
        """Raises KeyFileRefused for a key that could leave the server, or whose kind authenticates no context."""
        data = self._read_key()
        kind = str(data.get("type"))[:40]
        if kind not in TYPES or data.get("derived") is not False:
            raise KeyFileRefused(f"transit key {self}: {kind}, want {' or '.join(TYPES)}, not derived")
        if data.get("exportable") is not False or data.get("allow_plaintext_backup") is not False:
            raise KeyFileRefused(f"transit key {self}: it can be read out, want one that cannot")
        self._prove(os.urandom)

    def _prove(self, random: Random) -> None:
        """Once: associated data is authenticated."""
        if self._proved:
            return
        wrapped = self._encrypt(SecretBytes(random(32)), b"one context")
        if self._decrypt(wrapped, b"another context").status != 400:
            raise KeyFileRefused(f"transit key {self}: the server does not authenticate associated data: it is too old")
        self._proved = True

    def _encrypt(self, data_key: SecretBytes, bound_to: bytes) -> bytes:
        body = {"plaintext": _encoded(data_key.reveal()), "associated_data": _encoded(bound_to)}
        answer = self._good(self._vault.ask("POST", self._path("encrypt"), body), "encrypt")
        wrapped = str(answer.data.get("ciphertext", "")).encode("ascii", "replace")
        if not _WRAPPED.fullmatch(wrapped):
            raise self._problem("encrypt: the answer holds no ciphertext")
        return wrapped

    def _decrypt(self, wrapped: bytes, bound_to: bytes) -> VaultAnswer:
        body = {"ciphertext": wrapped.decode("ascii"), "associated_data": _encoded(bound_to)}
        return self._vault.ask("POST", self._path("decrypt"), body)

    def _newest(self) -> int:
        version, looked = self._latest
        if self._clock() >= looked + LATEST_SECONDS:
            found = self._read_key().get("latest_version")
            if type(found) is not int:
                raise self._problem("its newest version is not said")
            version, self._latest = found, (found, self._clock())
        return version

    def _read_key(self) -> dict[str, object]:
        return self._good(self._vault.ask("GET", f"{self._place.mount}/keys/{self._place.key}"), "keys").data

    def _good(self, answer: VaultAnswer, what: str) -> VaultAnswer:
        if answer.status != 200:
            raise self._problem(f"{what}: HTTP {answer.status} {answer.reason}")
        return answer

    def _decoded(self, text: object) -> bytes:
        try:
            return base64.b64decode(text if isinstance(text, str) else "?", validate=True)
        except ValueError:
            raise self._problem("decrypt: the answer holds no plaintext") from None

    def _problem(self, text: str) -> VaultUnavailable:
        return VaultUnavailable(f"transit key {self}: {text}", code="vault.refused")

    def _path(self, verb: str) -> str:
        return f"{self._place.mount}/{verb}/{self._place.key}"

    def __str__(self) -> str:
        return f"{self._place.key} in {self._place.mount} of {self._vault.settings}"


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
