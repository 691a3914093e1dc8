"""PE images signed as Authenticode does it, with keys made on the spot."""

from __future__ import annotations

import datetime
from hashlib import sha256
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ovmf.authority import X509
from ovmf.pe import authenticode
from tests.unit.ovmf.test_pe import small_pe

_SHA256 = bytes.fromhex("300d06096086480165030402010500")
_RSA = bytes.fromhex("300d06092a864886f70d0101010500")
_WHEN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class Signer(NamedTuple):
    """A key and its certificate."""

    key: rsa.RSAPrivateKey
    cert: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.cert.public_bytes(Encoding.DER)


def make_signer(name: str, issuer: Signer | None = None) -> Signer:
    """Self-signed without ``issuer``."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key()).serial_number(1000)
    builder = builder.issuer_name(issuer.cert.subject if issuer else subject)
    builder = builder.not_valid_before(_WHEN).not_valid_after(_WHEN + datetime.timedelta(days=1))
    return Signer(key, builder.sign((issuer or Signer(key, None)).key, SHA256()))  # type: ignore[arg-type]


def tlv(tag: int, *parts: bytes) -> bytes:
    value = b"".join(parts)
    if len(value) < 0x80:
        return bytes([tag, len(value)]) + value
    size = len(value).to_bytes((len(value).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + value


def pkcs7(signer: Signer, digest: bytes, *others: Signer, spoil: str = "") -> bytes:
    """Signed data over an image's digest; ``spoil`` names the one thing that is wrong."""
    indirect = tlv(0x30, tlv(0x30, bytes.fromhex("060a2b06010401823702010f")), tlv(0x30, _SHA256, tlv(0x04, digest)))
    content = tlv(0x30, bytes.fromhex("060a2b060104018237020104"), tlv(0xA0, indirect))
    inner = indirect[2:]
    over = bytes(32) if spoil == "message digest" else sha256(inner).digest()
    attribute = tlv(0x30, bytes.fromhex("06092a864886f70d010904"), tlv(0x31, tlv(0x04, over)))
    signature = signer.key.sign(tlv(0x31, attribute), padding.PKCS1v15(), SHA256())
    if spoil == "signature":
        signature = bytes([signature[0] ^ 1]) + signature[1:]
    name = tlv(0x30, signer.cert.issuer.public_bytes(), tlv(0x02, (1001 if spoil == "signer" else 1000).to_bytes(2)))
    info = tlv(0x30, b"\2\1\1", name, _SHA256, tlv(0xA0, attribute), _RSA, tlv(0x04, signature))
    certificates = tlv(0xA0, signer.der, *(other.der for other in others))
    data = tlv(0x30, b"\2\1\1", tlv(0x31, _SHA256), content, certificates, tlv(0x31, info))
    return tlv(0x30, bytes.fromhex("06092a864886f70d010702"), tlv(0xA0, data))


def signed(image: bytes, *signatures: bytes) -> bytes:
    """``image`` (without a certificate table) with these signatures behind it."""
    table = b""
    for item in signatures:
        padded = item + bytes(-len(item) % 8)
        table += (8 + len(padded)).to_bytes(4, "little") + b"\0\2\2\0" + padded
    at = image.index(b"PE\0\0") + 24 + 112 + 32
    return image[:at] + len(image).to_bytes(4, "little") + len(table).to_bytes(4, "little") + image[at + 8 :] + table


def sign(signer: Signer, *others: Signer, image: bytes | None = None, spoil: str = "") -> bytes:
    """A small image with one signature."""
    image = small_pe() if image is None else image
    digest = authenticode(image, "sha256")
    return signed(image, pkcs7(signer, bytes(32) if spoil == "image digest" else digest, *others, spoil=spoil))


def database(*entries: bytes, kind: bytes = X509, owner: bytes = b"o" * 16) -> bytes:
    """One list per entry."""
    return b"".join(
        kind + (44 + len(item)).to_bytes(4, "little") + bytes(4) + (16 + len(item)).to_bytes(4, "little") + owner + item
        for item in entries
    )
