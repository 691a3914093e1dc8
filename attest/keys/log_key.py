"""The key that signs the audit log's checkpoints: Ed25519, under the log's name (its origin)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from attest.audit.note import Verifier, verifier_of
from attest.keys.errors import KeyFileRefused
from attest.keys.files import read_private, write_private


class LogKey(NamedTuple):
    """``origin`` is the first line of every checkpoint and the name of the key."""

    origin: str
    private: Ed25519PrivateKey

    @property
    def verifier(self) -> Verifier:
        """The public half: what a proof is checked with."""
        return verifier_of(self.origin, self.private)


def load_log_key(path: Path, origin: str) -> LogKey:
    """From an unencrypted PKCS #8 PEM file that only this user can read."""
    try:
        private = load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileRefused(f"log key {path}: not an unencrypted PEM private key") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyFileRefused(f"log key {path}: want an Ed25519 key")
    return LogKey(origin, private)


def make_log_key(path: Path, origin: str) -> LogKey:
    """Make a key and write it to a new file, mode 0600."""
    private = Ed25519PrivateKey.generate()
    write_private(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return LogKey(origin, private)
