"""Folders of certificates as QEMU's tls-creds-x509 wants them: a CA, a server and a client."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_START = datetime.now(UTC) - timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def make_tls(folder: Path) -> tuple[Path, Path]:
    """(server's folder, client's folder) for 127.0.0.1, of one new CA."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _signed("test CA", ca_key, "test CA", ca_key, ca=True, server=False)
    folders = []
    for role in ("server", "client"):
        home = folder / role
        home.mkdir(parents=True)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _signed(f"test {role}", key, "test CA", ca_key, ca=False, server=role == "server")
        (home / "ca-cert.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        (home / f"{role}-cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (home / f"{role}-key.pem").write_bytes(_pem(key))
        (home / f"{role}-key.pem").chmod(0o600)
        folders.append(home)
    return folders[0], folders[1]


def _signed(
    subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey, *, ca: bool,
    server: bool,
) -> x509.Certificate:  # fmt: skip
    usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_START)
        .not_valid_after(_START + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(
            x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False), critical=True
        )
    )  # fmt: skip
    if not ca:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        builder = builder.add_extension(names, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(signer, hashes.SHA256())
