"""P-384 keys and signatures in the byte layout of the SEV firmware.

A public key is 0x404 bytes {curve u32 = 2, qx 72, qy 72, zero 0x370}, a signature 512 bytes {r 72, s 72, zero 0x170};
all numbers little-endian, so the last 24 of each 72 bytes are zero. The *digest* of a key, as reports carry it, is
SHA-384 over the 0x404 bytes. Source: SEV-SNP Firmware ABI (AMD publication 56860), chapter 10.
"""

from __future__ import annotations

from hashlib import sha384

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ovmf.errors import IdBlockInvalid, IdBlockMalformed, KeyUnusable
from policy.wire import ByteReader

PUBLIC_KEY_SIZE = 0x404
SIGNATURE_SIZE = 512
_CURVE_P384 = 2
_FIELD, _PADDING = 48, 24


def public_key_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """The 0x404 bytes of a P-384 key; another curve is :class:`KeyUnusable`."""
    if not isinstance(key.curve, ec.SECP384R1):
        raise KeyUnusable(f"key: curve got {key.curve.name}, want secp384r1 (P-384)")
    numbers = key.public_numbers()
    body = _CURVE_P384.to_bytes(4, "little") + numbers.x.to_bytes(72, "little") + numbers.y.to_bytes(72, "little")
    return body.ljust(PUBLIC_KEY_SIZE, b"\0")


def parse_public_key(raw: bytes, what: str) -> ec.EllipticCurvePublicKey:
    """The key in 0x404 bytes, or :class:`IdBlockMalformed`: reserved bytes set, or no point of the curve."""
    reader = ByteReader(raw, what, error=IdBlockMalformed)
    curve = reader.u32("curve")
    if curve != _CURVE_P384:
        raise reader.fail(f"curve: got {curve}, want 2 (P-384)")
    x, y = _number(reader, "qx"), _number(reader, "qy")
    reader.zero(PUBLIC_KEY_SIZE - reader.offset, "reserved")
    reader.end()
    try:
        return ec.EllipticCurvePublicNumbers(x, y, ec.SECP384R1()).public_key()
    except ValueError:
        raise reader.fail("qx, qy: no point of the curve P-384") from None


def key_digest(raw: bytes) -> bytes:
    """SHA-384 of a key's 0x404 bytes: ID_KEY_DIGEST and AUTHOR_KEY_DIGEST of a report, 48 bytes."""
    if len(raw) != PUBLIC_KEY_SIZE:
        raise IdBlockMalformed(f"key: got {len(raw)} bytes, want {PUBLIC_KEY_SIZE}")
    return sha384(raw).digest()


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """ECDSA with SHA-384 in the 512-byte form. Deterministic (RFC 6979): the same input gives the same bytes."""
    public_key_bytes(key.public_key())  # the curve
    der = key.sign(message, ec.ECDSA(hashes.SHA384(), deterministic_signing=True))
    r, s = decode_dss_signature(der)
    return (r.to_bytes(72, "little") + s.to_bytes(72, "little")).ljust(SIGNATURE_SIZE, b"\0")


def verify(raw_key: bytes, signature: bytes, message: bytes, what: str) -> None:
    """Raise :class:`IdBlockInvalid` unless ``signature`` (512 bytes) over ``message`` is the key's."""
    reader = ByteReader(signature, what, error=IdBlockMalformed)
    r, s = _number(reader, "r"), _number(reader, "s")
    reader.zero(SIGNATURE_SIZE - reader.offset, "reserved")
    reader.end()
    key = parse_public_key(raw_key, f"{what}: public key")
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise IdBlockInvalid(f"{what}: not made by the key with digest {key_digest(raw_key).hex()}") from None


def private_key_from_pem(pem: bytes, what: str) -> ec.EllipticCurvePrivateKey:
    """A P-384 private key in PEM (SEC 1 or PKCS #8, not encrypted), or :class:`KeyUnusable`. Nothing of it is shown."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except TypeError:
        raise KeyUnusable(
            f"{what}: is encrypted", hint="decrypt it to a pipe: /dev/fd/3 can be named as file"
        ) from None
    except ValueError:
        raise KeyUnusable(f"{what}: no private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise KeyUnusable(f"{what}: want an elliptic curve key on P-384 (openssl ecparam -name secp384r1 -genkey)")
    return key


def public_key_from_pem(pem: bytes, what: str) -> bytes:
    """The 0x404 bytes of the key in a PEM file, public or private."""
    if b"PRIVATE KEY-----" in pem:
        return public_key_bytes(private_key_from_pem(pem, what).public_key())
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError:
        raise KeyUnusable(f"{what}: no public key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise KeyUnusable(f"{what}: want an elliptic curve key on P-384")
    return public_key_bytes(key)


def _number(reader: ByteReader, name: str) -> int:
    value = reader.take(_FIELD, name)
    reader.zero(_PADDING, f"{name} (upper bytes)")
    return int.from_bytes(value, "little")
