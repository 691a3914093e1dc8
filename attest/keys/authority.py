"""The service's own certificates: one authority that guests pin, another that vouches for operators.

Two authorities, so that nothing a guest trusts can ever open the operators' listener. Keys are ECDSA P-256;
certificates follow RFC 5280: CA certificates with basicConstraints and keyUsage critical, leaves with
extendedKeyUsage and SANs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from attest.keys.errors import KeyFileRefused
from attest.keys.files import read_private

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=397)
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self) -> bytes:
        """The private key in PEM (PKCS #8, unencrypted)."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_authority(common_name: str, now: datetime) -> Credential:
    """A self-signed authority that may sign leaves only."""
    key = generate_private_key(SECP256R1())
    name = _name(common_name)
    builder = (
        _builder(name, name, key, now, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
    )
    return Credential(builder.sign(key, SHA256()), key)


def load_authority(certificate: Path, key: Path) -> Credential:
    """An authority that was made before. Raises KeyFileRefused, also where the key is not the certificate's."""
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = load_pem_private_key(read_private(key), password=None)
    except (OSError, ValueError, TypeError) as exc:
        raise KeyFileRefused(f"authority {certificate}, {key}: {exc}") from None
    if not isinstance(private, EllipticCurvePrivateKey) or private.public_key() != found.public_key():
        raise KeyFileRefused(f"authority {certificate}: {key} is not its key, or none of an elliptic curve")
    return Credential(found, private)


def issue_crl(authority: Credential, revoked: Mapping[int, datetime], now: datetime, lifetime: timedelta) -> bytes:
    """A revocation list (PEM) of serial numbers and since when (RFC 5280, section 5)."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now)
        .next_update(now + lifetime)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
    )
    for serial, since in sorted(revoked.items()):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(authority.key, SHA256()).public_bytes(Encoding.PEM)


def issue_server(authority: Credential, hosts: Sequence[str], now: datetime) -> Credential:
    """A TLS server certificate for these DNS names and IP addresses."""
    names = [_general_name(host) for host in hosts]
    return _issue(authority, "cvm attestation service", now, ExtendedKeyUsageOID.SERVER_AUTH, names)


def issue_operator(authority: Credential, common_name: str, now: datetime) -> Credential:
    """A TLS client certificate for one operator; the name appears in audit records."""
    return _issue(authority, common_name, now, ExtendedKeyUsageOID.CLIENT_AUTH, [])


def _issue(
    authority: Credential,
    common_name: str,
    now: datetime,
    purpose: x509.ObjectIdentifier,
    names: Sequence[x509.GeneralName],
) -> Credential:
    key = generate_private_key(SECP256R1())
    builder = (
        _builder(_name(common_name), authority.certificate.subject, key, now, LEAF_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Credential(builder.sign(authority.key, SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
