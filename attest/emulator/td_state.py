"""The emulated TDX platform's folder: keys, certificates and signed collateral that outlive the process.

*.key             0600  root, platform CA, TCB signer, PCK, attestation key
pck.pem platform-ca.pem tcb-signing.pem root.pem   certificates; root.pem is written last and marks completeness
collateral/       what a verifier needs and Intel would serve: renewed at every start, valid for 30 days
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from attest.emulator.errors import EmulatorError
from attest.emulator.state import locked, write
from attest.emulator.td_pki import Issued, Validity, issue, new_key, revocation_list
from attest.emulator.td_platform import EXTENSION, qe_identity_json, tcb_info_json
from attest.evidence.intel_certificate import IntelRole

_LIFE = timedelta(days=20 * 365)
_COLLATERAL_LIFE = timedelta(days=30)


class TdKeys(NamedTuple):
    """The platform's certificates with their keys, and the attestation key of its quoting enclave."""

    root: Issued
    platform_ca: Issued
    tcb_signing: Issued
    pck: Issued
    attestation: ec.EllipticCurvePrivateKey

    @property
    def root_sha256(self) -> str:
        """SHA-256 of the root's SubjectPublicKeyInfo, hexadecimal: what a policy names to trust this platform."""
        return self.root.spki_sha256.hex()


def make_platform(now: datetime) -> TdKeys:
    """New keys and certificates, valid from the day before ``now``. The PPID is the PCK key's hash: a platform is its
    key."""
    life = Validity(now - timedelta(days=1), now + _LIFE)
    root = issue(IntelRole.ROOT, new_key(), None, life, x509.random_serial_number())
    platform = issue(IntelRole.PLATFORM_CA, new_key(), root, life, x509.random_serial_number())
    signer = issue(IntelRole.TCB_SIGNING, new_key(), root, life, x509.random_serial_number())
    key = new_key()
    identity = hashlib.sha256(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)).digest()
    extension = EXTENSION._replace(ppid=identity[:16], piid=identity[16:])
    pck = issue(IntelRole.PCK, key, platform, life, x509.random_serial_number(), extension)
    return TdKeys(root, platform, signer, pck, new_key())


def load_or_make(folder: Path, now: datetime) -> TdKeys:
    """The platform that lives in ``folder``, made there on first use; its collateral is renewed."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(folder):
            if not (folder / "root.pem").exists():
                _save(folder, make_platform(now))
            keys = _load(folder)
            _write_collateral(folder / "collateral", keys, now)
            return keys
    except OSError as exc:
        raise EmulatorError(f"emulated TDX platform: {exc.filename or folder}: {exc.strerror}") from exc
    except (ValueError, TypeError) as exc:
        raise EmulatorError(
            f"emulated TDX platform: {folder}: {exc}",
            hint="Remove the folder: a new platform (and a new root) is made on next use.",
        ) from exc


def _write_collateral(folder: Path, keys: TdKeys, now: datetime) -> None:
    """Chains, lists, TCB info and QE identity, each in a file of its own, as `attest collateral import` takes them."""
    folder.mkdir(exist_ok=True, mode=0o700)
    validity = Validity(now - timedelta(days=1), now + _COLLATERAL_LIFE)
    number = int(now.timestamp())
    signer = keys.tcb_signing.key
    write(folder / "tcb-signing-chain.pem", _pem(keys.tcb_signing) + _pem(keys.root), 0o644)
    write(folder / "pck-platform-chain.pem", _pem(keys.platform_ca) + _pem(keys.root), 0o644)
    for name, issuer in (("root.crl", keys.root), ("platform.crl", keys.platform_ca)):
        crl = revocation_list(issuer, validity, number)
        write(folder / name, crl.public_bytes(Encoding.DER), 0o644)
    write(folder / "tcb-info.json", tcb_info_json(signer, validity), 0o644)
    write(folder / "qe-identity.json", qe_identity_json(signer, validity), 0o644)


_FILES = ("platform-ca", "tcb-signing", "pck", "root")


def _save(folder: Path, keys: TdKeys) -> None:
    issued = dict(zip(_FILES, (keys.platform_ca, keys.tcb_signing, keys.pck, keys.root), strict=True))
    private = {name: item.key for name, item in issued.items()} | {"attestation": keys.attestation}
    for name, key in private.items():
        write(folder / f"{name}.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    for name, item in issued.items():
        write(folder / f"{name}.pem", _pem(item), 0o644)


def _load(folder: Path) -> TdKeys:
    platform, signer, pck, root = (_issued(folder, name) for name in _FILES)
    return TdKeys(root, platform, signer, pck, _key(folder / "attestation.key"))


def _issued(folder: Path, name: str) -> Issued:
    certificate = x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())
    key = _key(folder / f"{name}.key")
    if key.public_key() != certificate.public_key():
        raise ValueError(f"{name}: key and certificate do not belong together")
    return Issued(certificate, key)


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{path.name}: want an elliptic-curve key")
    return key


def _pem(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(Encoding.PEM)
