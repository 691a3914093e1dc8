"""The emulated chip's folder: keys and certificates that outlive the process.

    ark.key    0600  signs fresh revocation lists
    vcek.key   0600  signs reports
    ark.pem ask.pem vcek.pem   certificates; ark.pem is written last and marks the folder complete

The ASK's key is not kept: nothing more is ever issued under it.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from attest.emulator.errors import EmulatorError
from attest.emulator.pki import ChipKeys, make_chip

if TYPE_CHECKING:
    from collections.abc import Iterator


def load_or_make(folder: Path, now: datetime) -> ChipKeys:
    """The chip that lives in ``folder``; on first use it is made there. Two processes at once make one chip."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(folder):
            if not (folder / "ark.pem").exists():
                _save(folder, make_chip(now))
            return _load(folder)
    except OSError as exc:
        raise EmulatorError(f"emulated chip: {exc.filename or folder}: {exc.strerror}") from exc
    except (ValueError, TypeError) as exc:
        raise EmulatorError(
            f"emulated chip: {folder}: {exc}",
            hint="Remove the folder: a new chip (and a new root) is made on next use.",
        ) from exc


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else is in ``folder`` meanwhile. Raises OSError."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _save(folder: Path, keys: ChipKeys) -> None:
    for name, key in (("ark.key", keys.ark_key), ("vcek.key", keys.vcek_key)):
        write(folder / name, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    for name, certificate in (("vcek.pem", keys.vcek), ("ask.pem", keys.ask), ("ark.pem", keys.ark)):
        write(folder / name, certificate.public_bytes(Encoding.PEM), 0o644)


def write(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all."""
    part = path.with_name(path.name + ".part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, mode)
        file.write(data)
        file.flush()
        os.fsync(fd)
    part.replace(path)


def _load(folder: Path) -> ChipKeys:
    ark_key, vcek_key = (load_pem_private_key((folder / n).read_bytes(), None) for n in ("ark.key", "vcek.key"))
    ark, ask, vcek = (
        x509.load_pem_x509_certificate((folder / n).read_bytes()) for n in ("ark.pem", "ask.pem", "vcek.pem")
    )
    if not isinstance(ark_key, rsa.RSAPrivateKey) or not isinstance(vcek_key, ec.EllipticCurvePrivateKey):
        raise ValueError("ark.key must be RSA and vcek.key P-384")
    if ark_key.public_key() != ark.public_key() or vcek_key.public_key() != vcek.public_key():
        raise ValueError("keys and certificates do not belong together")
    return ChipKeys(ark_key, ark, ask, vcek_key, vcek)
