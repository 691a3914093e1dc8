"""The emulated chip's certificate authority: shaped like AMD's, named as what it is, made on first use.

    ARK-Genoa (RSA-4096, self-signed) → SEV-Genoa (RSA-4096, path length 0) → SEV-VCEK (P-384, TCB and chip id)

All links are RSASSA-PSS with SHA-384 and 48 bytes of salt, as AMD's are. The common names must be AMD's because a
verifier finds the product in them; organisation and unit say that nothing here is AMD's. Source of the shape: AMD,
*VCEK Certificate and KDS Interface Specification* (document 57230).
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from policy.snp import TcbVersion
from policy.vocab import SnpProduct

PRODUCT = SnpProduct.GENOA
ORGANISATION = "cvm emulated chip (not AMD)"
# What a Genoa of firmware 1.55.39 reports; the extensions of the VCEK and the report must agree on it.
TCB = TcbVersion(bootloader=10, tee=0, snp=24, microcode=84)
CA_LIFE = timedelta(days=25 * 365)
LEAF_LIFE = timedelta(days=7 * 365)
CRL_LIFE = timedelta(days=42)
_ARC = "1.3.6.1.4.1.3704.1"
_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=48)


class ChipKeys(NamedTuple):
    """Private keys and certificates of one emulated chip."""

    ark_key: rsa.RSAPrivateKey
    ark: x509.Certificate
    ask: x509.Certificate
    vcek_key: ec.EllipticCurvePrivateKey
    vcek: x509.Certificate

    @property
    def root_sha256(self) -> str:
        """SHA-256 of the ARK's SubjectPublicKeyInfo, hexadecimal: what a policy names to trust this chip."""
        spki = self.ark.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(spki).hexdigest()

    @property
    def chip_id(self) -> bytes:
        """64 bytes, as in the VCEK's extension."""
        return chip_id_of(self.vcek_key.public_key())


def chip_id_of(vcek: ec.EllipticCurvePublicKey) -> bytes:
    """An emulated chip is its key, so its 64-byte id is the key's SHA-512."""
    return hashlib.sha512(vcek.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def make_chip(now: datetime) -> ChipKeys:
    """New keys and certificates, valid from the day before ``now`` (clocks of guests run late). Takes seconds."""
    start = now - timedelta(days=1)
    ark_key = rsa.generate_private_key(public_exponent=65537, key_size=4096)
    ask_key = rsa.generate_private_key(public_exponent=65537, key_size=4096)
    vcek_key = ec.generate_private_key(ec.SECP384R1())
    ark_name, ask_name = _name(f"ARK-{PRODUCT.value}"), _name(f"SEV-{PRODUCT.value}")
    ark = _authority(ark_name, ark_name, ark_key.public_key(), start, None).sign(
        ark_key, hashes.SHA384(), rsa_padding=_PSS
    )
    ask = _authority(ask_name, ark_name, ask_key.public_key(), start, 0).sign(
        ark_key, hashes.SHA384(), rsa_padding=_PSS
    )
    vcek = _leaf(ask_name, vcek_key.public_key(), start).sign(ask_key, hashes.SHA384(), rsa_padding=_PSS)
    return ChipKeys(ark_key, ark, ask, vcek_key, vcek)


def make_crl(keys: ChipKeys, now: datetime) -> x509.CertificateRevocationList:
    """An empty revocation list of the ARK, as AMD publishes one per product."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(keys.ark.subject)
        .last_update(now - timedelta(days=1))
        .next_update(now + CRL_LIFE)
        .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
    )
    return builder.sign(keys.ark_key, hashes.SHA384(), rsa_padding=_PSS)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "emulated, for tests and demonstrations"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _authority(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey, start: datetime, path_length: int | None
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
    )


def _leaf(issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime) -> x509.CertificateBuilder:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name("SEV-VCEK"))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())  # AMD's is 0, which the library refuses to write
        .not_valid_before(start)
        .not_valid_after(start + LEAF_LIFE)
    )
    for suffix, value in _extensions(chip_id_of(key)).items():
        oid = x509.ObjectIdentifier(f"{_ARC}.{suffix}")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
    return builder


def _extensions(chip_id: bytes) -> dict[str, bytes]:
    """OID suffix to value. Integers and strings are DER; hwID is bare bytes."""
    name = PRODUCT.value.encode("ascii")
    return {
        "1": _integer(0),
        "2": b"\x16" + bytes([len(name)]) + name,
        "3.1": _integer(TCB.bootloader),
        "3.2": _integer(TCB.tee),
        "3.3": _integer(TCB.snp),
        "3.4": _integer(0),
        "3.5": _integer(0),
        "3.6": _integer(0),
        "3.7": _integer(0),
        "3.8": _integer(TCB.microcode),
        "4": chip_id,
    }


def _integer(value: int) -> bytes:
    """DER INTEGER of 0 to 255; from 128 on a sign byte comes first."""
    content = value.to_bytes(1 if value < 128 else 2, "big")
    return b"\x02" + bytes([len(content)]) + content
