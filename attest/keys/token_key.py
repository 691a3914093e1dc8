"""A master key in a PKCS#11 token (HSM): it never leaves the token, which wraps and unwraps by AES-GCM itself.

One session per process, opened when it is first used: PKCS#11 does not survive a fork, so a child initialises the
library again. The PIN is read from a file each time a session is opened.
Source: PKCS #11 v2.40, sections 5.4 "C_Initialize" (applications and fork) and 2.12.7 "AES-GCM".
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from attest.keys.context import context
from attest.keys.errors import KeyFileRefused, KeyUnavailable, SealBroken
from attest.keys.files import read_private
from attest.keys.wrapping import NONCE_BYTES, Random
from policy.secret import SecretBytes

try:
    import pkcs11
    from pkcs11.exceptions import (
        ArgumentsBad,
        DataInvalid,
        EncryptedDataInvalid,
        EncryptedDataLenRange,
        FunctionFailed,
        GeneralError,
        PKCS11Error,
        UserAlreadyLoggedIn,
    )
except ImportError:
    raise KeyFileRefused(
        "master key: this installation has no PKCS#11 support", hint="pip install 'cvm[hsm]'"
    ) from None

KEY_BITS = 256
_TAG_BITS = 128
# What tokens answer to a ciphertext whose tag does not fit; the last two are SoftHSM's.
_BROKEN = (EncryptedDataInvalid, EncryptedDataLenRange, DataInvalid, ArgumentsBad, GeneralError, FunctionFailed)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """Which key: the library, the token's and the key's labels, the file that holds the user PIN."""

    module: Path
    token: str
    key: str
    pin_file: Path


class TokenKey:
    """An AES-256 key of a token. Safe to make before a fork."""

    remote = False

    def __init__(self, place: TokenPlace) -> None:
        self._place = place
        self._pid = 0
        self._key: Any = None
        self._lock = Lock()
        digest = hashlib.sha256(context("cvm.token-key-id/1", place.token, place.key)).digest()
        self.key_id = f"pkcs11-{digest[:8].hex()}"

    def wrap(self, data_key: SecretBytes, bound_to: bytes, random: Random = os.urandom) -> bytes:
        """See :class:`attest.keys.wrapping.WrappingKey`."""
        nonce = random(NONCE_BYTES)
        return nonce + self._use(lambda key: bytes(key.encrypt(data_key.reveal(), **_gcm(nonce, bound_to))))

    def unwrap(self, wrapped: bytes, bound_to: bytes, what: str) -> SecretBytes:
        """See :class:`attest.keys.wrapping.WrappingKey`."""
        nonce, data = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        if len(data) <= _TAG_BITS // 8:
            raise SealBroken(f"{what}: does not open, the stored row was cut")
        try:
            return self._use(lambda key: SecretBytes(bytes(key.decrypt(data, **_gcm(nonce, bound_to)))))
        except _BROKEN:
            raise SealBroken(f"{what}: does not open, the stored row or its master key was changed") from None

    def check(self) -> None:
        """See :class:`attest.keys.wrapping.WrappingKey`: a token says so when it is used."""

    def outdated(self, wrapped: bytes) -> bool:
        """See :class:`attest.keys.wrapping.WrappingKey`: another key is another id."""
        return False

    def make(self) -> None:
        """Make the key in the token: it can be used there, not read or copied out.

        Raises KeyFileRefused where there is one of that label, KeyUnavailable.
        """
        place = self._place
        template = {pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False}
        use = pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT
        try:
            with _session(_library(place.module), place, writing=True) as session:
                if list(session.get_objects({pkcs11.Attribute.LABEL: place.key})):
                    raise KeyFileRefused(f"token {place.token}: has a key {place.key!r} already")
                session.generate_key(
                    pkcs11.KeyType.AES, KEY_BITS, label=place.key, store=True, capabilities=use, template=template
                )
        except PKCS11Error as exc:
            raise KeyUnavailable(f"master key {self}: {type(exc).__name__}") from None

    def _use(self, act: Callable[[Any], Result]) -> Result:
        with self._lock:
            try:
                return act(self._opened())
            except _BROKEN:
                raise
            except PKCS11Error as exc:
                self._key = None  # the token may come back: the next use opens it anew
                raise KeyUnavailable(f"master key {self}: {type(exc).__name__}") from None

    def _opened(self) -> Any:
        if self._key is None or self._pid != os.getpid():
            library = _library(self._place.module)
            if self._pid not in (0, os.getpid()):
                library.reinitialize()
            self._pid = os.getpid()
            self._key = _find(library, self._place)
        return self._key

    def __str__(self) -> str:
        return f"{self._place.key} in token {self._place.token}"


def _gcm(nonce: bytes, bound_to: bytes) -> dict[str, Any]:
    parameters = pkcs11.GCMParams(nonce=nonce, aad=bound_to, tag_bits=_TAG_BITS)
    return {"mechanism": pkcs11.Mechanism.AES_GCM, "mechanism_param": parameters}


def _library(module: Path) -> Any:
    try:
        return pkcs11.lib(str(module))
    except (RuntimeError, PKCS11Error) as exc:
        raise KeyUnavailable(f"PKCS#11 library {module}: {exc}") from None


def _session(library: Any, place: TokenPlace, *, writing: bool = False) -> Any:
    pin = read_private(place.pin_file).decode("utf-8", "replace").strip()
    token = library.get_token(token_label=place.token)
    try:
        return token.open(user_pin=pin, rw=writing)
    except UserAlreadyLoggedIn:  # a login is the whole process's, a session is not
        return token.open(rw=writing)


def _find(library: Any, place: TokenPlace) -> Any:
    """The key; one that could be read out of the token is refused."""
    found = list(
        _session(library, place).get_objects(
            {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY, pkcs11.Attribute.LABEL: place.key}
        )
    )
    if len(found) != 1:
        raise KeyFileRefused(f"token {place.token}: {len(found)} keys of label {place.key!r}, want 1")
    key = found[0]
    if key[pkcs11.Attribute.EXTRACTABLE] or not key[pkcs11.Attribute.SENSITIVE]:
        raise KeyFileRefused(f"token {place.token}: key {place.key!r} can be read out, want one that cannot")
    return key
