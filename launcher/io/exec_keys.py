"""Operators' keys for ``cvm exec``: Ed25519, the private half in a PEM file that only its owner may read."""

from __future__ import annotations

import contextlib
import os
import stat
from base64 import urlsafe_b64encode

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from launcher.io.hashing import read_file
from policy.errors import CvmError

_MAX_FILE = 1 << 14


class KeyUnusable(CvmError):
    """A key file that is none, or that others could have read."""

    code = "exec.key"
    exit_status = 3


def new_key(path: str) -> str:
    """Make a key file that did not exist; its public key as the VM file wants it. Raises :class:`KeyUnusable`."""
    private = ed25519.Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise KeyUnusable(f"exec key: {path}: {exc.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
    except OSError as exc:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise KeyUnusable(f"exec key: {path}: {exc.strerror}") from None
    return public_text(private)


def read_key(path: str) -> ed25519.Ed25519PrivateKey:
    """Raises :class:`KeyUnusable`, :class:`launcher.io.hashing.FileUnreadable`."""
    data = read_file(path, "exec key", _MAX_FILE)
    mode = os.stat(path).st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyUnusable(
            f"exec key: {path}: mode {mode & 0o777:o}, want 600: others can read it", hint=f"chmod 600 {path}"
        )
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError):
        raise KeyUnusable(f"exec key: {path}: no private key in PEM without a password") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise KeyUnusable(f"exec key: {path}: another kind of key, want Ed25519", hint="cvm exec --new-key makes one")
    return key


def public_text(private: ed25519.Ed25519PrivateKey) -> str:
    """The public half as the VM file has it: base64url of 32 bytes."""
    raw = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
