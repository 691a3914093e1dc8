"""Envelope encryption of resources at rest.

Each version of each resource has its own random AES-256-GCM key, itself encrypted (AES-256-GCM) under a master key.
Both operations authenticate a context that names the purpose, the resource path and the version, so a row copied to
another path or version does not open. Layout of both ciphertexts: 12-byte nonce, ciphertext, 16-byte tag (NIST SP
800-38D; nonces are random, and a data key encrypts exactly once).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from attest.keys.context import context
from attest.keys.errors import SealBroken
from attest.keys.master import KEY_BYTES, MasterKeys
from policy.secret import SecretBytes
from policy.vocab import ResourcePath

NONCE_BYTES = 12
Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A resource's value, encrypted. ``master_key_id`` names the key ``wrapped_key`` is under."""

    master_key_id: str
    wrapped_key: bytes
    ciphertext: bytes


def seal(
    keys: MasterKeys, path: ResourcePath, version: int, value: SecretBytes, *, random: Random = os.urandom
) -> Sealed:
    """Encrypt ``value`` for this path and version under a fresh data key."""
    data_key = SecretBytes(random(KEY_BYTES))
    key_id = keys.newest
    sealed = Sealed(
        master_key_id=key_id,
        wrapped_key=_encrypt(keys.get(key_id), data_key, _key_context(key_id, path, version), random),
        ciphertext=_encrypt(data_key, value, _value_context(path, version), random),
    )
    data_key.wipe()
    return sealed


def unseal(keys: MasterKeys, path: ResourcePath, version: int, sealed: Sealed) -> SecretBytes:
    """Decrypt. Raises SealBroken if anything about the value, its path or its version was changed."""
    what = f"resource {path} version {version}"
    wrapping = keys.get(sealed.master_key_id)
    data_key = _decrypt(wrapping, sealed.wrapped_key, _key_context(sealed.master_key_id, path, version), what)
    value = _decrypt(data_key, sealed.ciphertext, _value_context(path, version), what)
    data_key.wipe()
    return value


def _key_context(key_id: str, path: str, version: int) -> bytes:
    return context("cvm.resource.data-key/1", key_id, path, version)


def _value_context(path: str, version: int) -> bytes:
    return context("cvm.resource.value/1", path, version)


def _encrypt(key: SecretBytes, value: SecretBytes, bound_to: bytes, random: Random) -> bytes:
    nonce = random(NONCE_BYTES)
    return nonce + AESGCM(key.reveal()).encrypt(nonce, value.reveal(), bound_to)


def _decrypt(key: SecretBytes, data: bytes, bound_to: bytes, what: str) -> SecretBytes:
    try:
        return SecretBytes(AESGCM(key.reveal()).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound_to))
    except (InvalidTag, ValueError):
        raise SealBroken(f"{what}: does not open, the stored row or its master key was changed") from None
