"""What reading certificates and revocation lists has in common for every vendor: bounds, errors, whole signatures."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from attest.evidence.der import SEQUENCE, read_element
from attest.evidence.errors import EvidenceMalformed

MAX_CERTIFICATE = 16 * 1024
_INTEGER, _VERSION = 0x02, 0xA0
MAX_CRL = 1 << 20
READ_ERRORS = (
    ValueError, TypeError, OverflowError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)  # fmt: skip
"""Everything ``cryptography`` raises for bytes it cannot read, also when a field is looked at later."""


def first_line(exc: BaseException) -> str:
    """What an exception says, short enough for one line of ours."""
    return (str(exc).splitlines() or [type(exc).__name__])[0][:200]


def check_size(der: bytes, most: int, what: str) -> None:
    """Raises :class:`EvidenceMalformed` for more than ``most`` bytes, before anything reads them."""
    if len(der) > most:
        raise EvidenceMalformed(f"{what}: {len(der)} bytes, want at most {most}")


def check_unsigned_fields(der: bytes, signature: bytes, what: str) -> None:
    """The two fields of a certificate or list that nobody signs leave no room for a second spelling.

    The algorithm is the one named inside, byte for byte (RFC 5280, sections 4.1.1.2 and 5.1.1.2), and no bits at the
    signature's end do not count: it is whole bytes.
    """
    if not der.endswith(b"\0" + signature):
        raise EvidenceMalformed(f"{what}: its signature is not a whole number of bytes")
    _, fields, _ = read_element(der, 0, what)
    _, signed, start = read_element(fields, 0, what)
    _, _, end = read_element(fields, start, what)
    if _algorithm(signed, what) != fields[start:end]:
        raise EvidenceMalformed(f"{what}: names another signature algorithm outside than inside of what is signed")


def _algorithm(signed: bytes, what: str) -> bytes:
    """The first SEQUENCE of a TBSCertificate or TBSCertList, after version and serial number: AlgorithmIdentifier."""
    offset = 0
    while offset < len(signed):
        tag, _, end = read_element(signed, offset, what)
        if tag == SEQUENCE:
            return signed[offset:end]
        offset = end
    return b""


def signed_part(der: bytes, what: str) -> bytes:
    """The first field of a certificate or list, header included: what its signature covers."""
    _, fields, _ = read_element(der, 0, what)
    _, _, end = read_element(fields, 0, what)
    return fields[:end]


def with_serial_1(der: bytes, what: str) -> bytes | None:
    """The same certificate with serial number 1 in place of 0, which nobody signed; ``None`` where it has another."""
    _, fields, _ = read_element(der, 0, what)
    _, signed, _ = read_element(fields, 0, what)
    tag, _, start = read_element(signed, 0, what)
    start = start if tag == _VERSION else 0
    tag, serial, end = read_element(signed, start, what)
    if (tag, serial) != (_INTEGER, b"\0"):
        return None
    at = der.index(signed) + end - 1
    return der[:at] + b"\1" + der[at + 1 :]
