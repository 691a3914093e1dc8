"""One interface for master keys, wherever they are: each wraps the data key of a resource and unwraps it again.

``bound_to`` is authenticated with the data key, so what was wrapped for one resource does not unwrap for another.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from attest.keys.context import context
from attest.keys.errors import SealBroken
from policy.secret import SecretBytes

NONCE_BYTES = 12
Random = Callable[[int], bytes]


class WrappingKey(Protocol):
    """One version of the master key. ``key_id`` has at most 32 characters and says nothing about the key."""

    remote: bool
    """Whether using it takes a network: then it is not used while others wait for a transaction to end."""

    @property
    def key_id(self) -> str:
        """What stored rows name it by."""

    def check(self) -> None:
        """Raises KeyUnavailable where it is known that the key cannot be used now."""

    def outdated(self, wrapped: bytes) -> bool:
        """Whether the key has a newer version of itself than wrapped this."""

    def wrap(self, data_key: SecretBytes, bound_to: bytes, random: Random = os.urandom) -> bytes:
        """Raises KeyUnavailable where the key is elsewhere and cannot be reached."""

    def unwrap(self, wrapped: bytes, bound_to: bytes, what: str) -> SecretBytes:
        """Raises SealBroken for what was changed, KeyUnavailable; ``what`` names it in errors."""


class LocalKey:
    """A key in this process's memory, 32 bytes. Wrapped: 12-byte nonce, AES-256-GCM ciphertext, 16-byte tag."""

    __slots__ = ("_key", "key_id")
    remote = False

    def __init__(self, key: SecretBytes) -> None:
        self._key = key
        self.key_id = hmac.new(key.reveal(), context("cvm.master-key-id/1"), hashlib.sha256).digest()[:8].hex()

    def check(self) -> None:
        """See :class:`WrappingKey`: what is in memory is there."""

    def outdated(self, wrapped: bytes) -> bool:
        """See :class:`WrappingKey`: another key is another id."""
        return False

    def wrap(self, data_key: SecretBytes, bound_to: bytes, random: Random = os.urandom) -> bytes:
        """See :class:`WrappingKey`."""
        return encrypt(self._key, data_key, bound_to, random)

    def unwrap(self, wrapped: bytes, bound_to: bytes, what: str) -> SecretBytes:
        """See :class:`WrappingKey`."""
        return decrypt(self._key, wrapped, bound_to, what)


def encrypt(key: SecretBytes, value: SecretBytes, bound_to: bytes, random: Random) -> bytes:
    """AES-256-GCM: nonce, ciphertext, tag."""
    nonce = random(NONCE_BYTES)
    return nonce + AESGCM(key.reveal()).encrypt(nonce, value.reveal(), bound_to)


def decrypt(key: SecretBytes, data: bytes, bound_to: bytes, what: str) -> SecretBytes:
    """Raises SealBroken."""
    try:
        return SecretBytes(AESGCM(key.reveal()).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound_to))
    except (InvalidTag, ValueError):
        raise SealBroken(f"{what}: does not open, the stored row or its master key was changed") from None
