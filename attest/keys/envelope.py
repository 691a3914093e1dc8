"""Envelope encryption of resources at rest.

Each version of each resource has its own random AES-256-GCM key, itself encrypted (AES-256-GCM) under a master key,
in this process or in a token.
Both operations authenticate a context that names the purpose, the resource path and the version, so a row copied to
another path or version does not open. Layout of both ciphertexts: 12-byte nonce, ciphertext, 16-byte tag (NIST SP
800-38D; nonces are random, and a data key encrypts exactly once).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from attest.keys.context import context
from attest.keys.master import KEY_BYTES, MasterKeys
from attest.keys.wrapping import Random, decrypt, encrypt
from policy.secret import SecretBytes


@dataclass(frozen=True, slots=True)
class Sealed:
    """A resource's value, encrypted. ``master_key_id`` names the key ``wrapped_key`` is under."""

    master_key_id: str
    wrapped_key: bytes
    ciphertext: bytes


def seal(keys: MasterKeys, path: str, version: int, value: SecretBytes, *, random: Random = os.urandom) -> Sealed:
    """Encrypt ``value`` for this path and version under a fresh data key. A path that no resource can have is one for
    other things the service keeps."""
    data_key = SecretBytes(random(KEY_BYTES))
    key_id = keys.newest
    sealed = Sealed(
        master_key_id=key_id,
        wrapped_key=keys.get(key_id).wrap(data_key, _key_context(key_id, path, version), random),
        ciphertext=encrypt(data_key, value, _value_context(path, version), random),
    )
    data_key.wipe()
    return sealed


def unseal(keys: MasterKeys, path: str, version: int, sealed: Sealed) -> SecretBytes:
    """Decrypt. Raises SealBroken if anything about the value, its path or its version was changed."""
    what = f"resource {path} version {version}"
    data_key = _data_key(keys, path, version, sealed, what)
    value = decrypt(data_key, sealed.ciphertext, _value_context(path, version), what)
    data_key.wipe()
    return value


def rewrap(keys: MasterKeys, path: str, version: int, sealed: Sealed, *, random: Random = os.urandom) -> Sealed:
    """The same value with its data key under the newest master key. Raises SealBroken, KeyUnavailable."""
    data_key = _data_key(keys, path, version, sealed, f"resource {path} version {version}")
    key_id = keys.newest
    wrapped = keys.get(key_id).wrap(data_key, _key_context(key_id, path, version), random)
    data_key.wipe()
    return Sealed(key_id, wrapped, sealed.ciphertext)


def renewed(keys: MasterKeys, path: str, version: int, sealed: Sealed) -> Sealed | None:
    """As :func:`rewrap` what is under another master key than the newest, or an older version of it; else ``None``."""
    newest = keys.newest
    if sealed.master_key_id == newest and not keys.get(newest).outdated(sealed.wrapped_key):
        return None
    return rewrap(keys, path, version, sealed)


def _data_key(keys: MasterKeys, path: str, version: int, sealed: Sealed, what: str) -> SecretBytes:
    bound_to = _key_context(sealed.master_key_id, path, version)
    return keys.get(sealed.master_key_id).unwrap(sealed.wrapped_key, bound_to, what)


def _key_context(key_id: str, path: str, version: int) -> bytes:
    return context("cvm.resource.data-key/1", key_id, path, version)


def _value_context(path: str, version: int) -> bytes:
    return context("cvm.resource.value/1", path, version)
