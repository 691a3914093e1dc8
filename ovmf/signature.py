"""Signatures of a PE image: who signed it, and that the signature is right.

The certificate table holds WIN_CERTIFICATEs {length u32, revision u16 = 0x200, type u16 = 2} with a PKCS#7 SignedData,
each aligned to 8 bytes. The SignedData signs an SpcIndirectDataContent with the image's Authenticode digest. Read as
firmware does: every signature is one of its own, in the order of the table; times do not count. Only RSA with SHA-256
is checked; a signature of another kind vouches for nothing here, and is told apart from a wrong one. Sources:
Microsoft, *Windows Authenticode Portable Executable Signature Format*; RFC 2315; edk2 ``CryptPkcs7VerifyCommon.c``.
"""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from ovmf.der import Element, elements, fields, first
from ovmf.errors import PeMalformed
from ovmf.pe import authenticode, parse_pe
from policy.wire import ByteReader

_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_INDIRECT_DATA = bytes.fromhex("060a2b060104018237020104")
_MESSAGE_DIGEST = bytes.fromhex("06092a864886f70d010904")
_SHA256 = bytes.fromhex("0609608648016503040201")
_RSA = (bytes.fromhex("06092a864886f70d010101"), bytes.fromhex("06092a864886f70d01010b"))
_SEQUENCE, _SET, _OCTETS, _FIRST = 0x30, 0x31, 0x04, 0xA0
_MAX_CHAIN = 8
_UNREADABLE = (ValueError, TypeError, OverflowError, UnsupportedAlgorithm, x509.InvalidVersion)
"""What ``cryptography`` raises for bytes it cannot read, also when a field is looked at later."""


class Unsupported(Exception):
    """A signature in order, of a kind that is not checked here."""


class Certificate(NamedTuple):
    """A certificate and its DER."""

    der: bytes
    parsed: x509.Certificate

    def issued(self, other: Certificate) -> bool:
        """Its key signed ``other``."""
        try:
            other.parsed.verify_directly_issued_by(self.parsed)
        except (*_UNREADABLE, InvalidSignature):
            return False
        return True


def certificate(der: bytes) -> Certificate:
    """Parse one, or :class:`PeMalformed`."""
    try:
        parsed = x509.load_der_x509_certificate(der)
        _ = parsed.subject, parsed.issuer  # read when asked for, and malformed then
        return Certificate(der, parsed)
    except _UNREADABLE as error:
        raise PeMalformed(f"certificate: {error}") from None


def signing_chains(image: bytes) -> list[list[Certificate]]:
    """Per signature of the image the signer's certificate and its issuers among those that came with it.

    Raises :class:`PeMalformed` for a malformed or wrong signature, :class:`Unsupported` when the image has signatures
    and none is of a kind that is checked here.
    """
    digest = authenticode(image, "sha256")
    chains, odd = [], ""
    for signed in _certificates(image):
        try:
            chains.append(_chain(signed, digest))
        except Unsupported as reason:
            odd = str(reason)
    if odd:
        raise Unsupported(odd)
    return chains


def _certificates(image: bytes) -> list[bytes]:
    offset, size = parse_pe(image).certificates
    reader = ByteReader(image[offset : offset + size], "PE certificate table", error=PeMalformed, base=offset)
    found = []
    while reader.remaining >= 8:
        length, revision, kind = reader.u32("length"), reader.u16("revision"), reader.u16("type")
        if (revision, kind) != (0x200, 2):
            raise reader.fail(f"revision 0x{revision:X}, type {kind}: want 0x200, 2 (PKCS#7)")
        found.append(reader.take(length - 8, "PKCS#7"))
        reader.skip(min(-length % 8, reader.remaining), "alignment")
    return found


def _chain(signed: bytes, digest: bytes) -> list[Certificate]:
    outer = first(signed, "PKCS#7")
    kind, content = fields(outer, _SEQUENCE, 2, "PKCS#7")[:2]
    if kind.whole != _SIGNED_DATA:
        raise PeMalformed("signature: want PKCS#7 signed data")
    data = fields(first(content.value, "content"), _SEQUENCE, 4, "signed data")
    _check_digest(fields(data[2], _SEQUENCE, 2, "content"), digest)
    brought = [certificate(item.whole) for part in data if part.tag == _FIRST for item in elements(part.value)]
    signers = fields(data[-1], _SET, 1, "signer infos")
    if len(signers) != 1:
        raise Unsupported(f"{len(signers)} signers in one signature")
    signer = _signer(signers[0], brought, fields(data[2], _SEQUENCE, 2, "content")[1])
    return _issuers(signer, brought)


def _check_digest(content: list[Element], digest: bytes) -> None:
    if content[0].whole != _INDIRECT_DATA:
        raise PeMalformed("signature: want the digest of an image in it")
    indirect = fields(first(content[1].value, "indirect data"), _SEQUENCE, 2, "indirect data")
    algorithm, value = fields(indirect[1], _SEQUENCE, 2, "digest")[:2]
    if _algorithm(algorithm) != _SHA256:
        raise Unsupported("a digest other than SHA-256")
    if value.value != digest:
        raise PeMalformed(f"signature: it is of digest {value.value.hex()}, the image has {digest.hex()}")


def _signer(info: Element, brought: list[Certificate], content: Element) -> Certificate:
    parts = fields(info, _SEQUENCE, 6, "signer info")
    issuer, serial = fields(parts[1], _SEQUENCE, 2, "issuer and serial number")[:2]
    found = [c for c in brought if c.parsed.issuer.public_bytes() == issuer.whole and _serial(c) == serial.value]
    if len(found) != 1:
        raise PeMalformed(f"signature: {len(found)} certificates of its signer, want one")
    if _algorithm(parts[2]) != _SHA256 or parts[3].tag != _FIRST:
        raise Unsupported("a digest other than SHA-256, or no signed attributes")
    if _algorithm(parts[4]) not in _RSA:
        raise Unsupported("a signature other than RSA's")
    _check_attributes(parts[3], sha256(first(content.value, "content").value).digest())
    try:
        key = found[0].parsed.public_key()
    except _UNREADABLE as error:
        raise PeMalformed(f"signature: its signer's key: {error}") from None
    if not isinstance(key, RSAPublicKey):
        raise Unsupported("a signature other than RSA's")
    try:
        key.verify(parts[5].value, bytes([_SET]) + parts[3].whole[1:], PKCS1v15(), SHA256())
    except InvalidSignature:
        raise PeMalformed("signature: wrong") from None
    return found[0]


def _algorithm(element: Element) -> bytes:
    """The identifier in an algorithm, whatever its parameters."""
    return fields(element, _SEQUENCE, 1, "algorithm")[0].whole


def _serial(item: Certificate) -> bytes:
    """As DER has it; some certificates have a negative one."""
    number = item.parsed.serial_number
    return number.to_bytes((number + (number < 0)).bit_length() // 8 + 1, "big", signed=True)


def _check_attributes(attributes: Element, want: bytes) -> None:
    found = [
        fields(parts[1], _SET, 1, "message digest")[0].value
        for parts in (fields(item, _SEQUENCE, 2, "attribute") for item in elements(attributes.value))
        if parts[0].whole == _MESSAGE_DIGEST
    ]
    if found != [want]:
        raise PeMalformed("signature: its message digest is not its content's")


def _issuers(signer: Certificate, brought: list[Certificate]) -> list[Certificate]:
    chain = [signer]
    while len(chain) < _MAX_CHAIN:
        above = next((c for c in brought if c not in chain and c.issued(chain[-1])), None)
        if above is None:
            break
        chain.append(above)
    return chain
