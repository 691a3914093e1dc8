"""What reading certificates and revocation lists has in common for every vendor: bounds, errors, whole signatures."""

from __future__ import annotations

from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from attest.evidence.der import SEQUENCE, content, elements, read_element
from attest.evidence.errors import EvidenceMalformed

MAX_CERTIFICATE = 16 * 1024
_INTEGER, _VERSION = 0x02, 0xA0
_COMMON_NAME = bytes.fromhex("0603550403")
_TEXT = {b"\x0c": "utf-8", b"\x13": "ascii"}
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


class Frame(NamedTuple):
    """A certificate or revocation list, taken apart. ``signed`` is what ``signature`` covers, with its header.

    ``fields`` are those of ``signed``, each with its header, from its AlgorithmIdentifier on: then the issuer, and in a
    certificate validity, subject and SubjectPublicKeyInfo.
    """

    signed: bytes
    fields: list[bytes]
    signature: bytes


def read_frame(der: bytes, what: str) -> Frame:
    """Of bytes that a library has read as a certificate or list. What nobody signs must have no second spelling.

    The algorithm beside the signature is the one named inside, byte for byte (RFC 5280, sections 4.1.1.2 and 5.1.1.2),
    and no bits at the signature's end do not count: it is whole bytes. Raises :class:`EvidenceMalformed`.
    """
    signed, algorithm, bits = elements(content(der, what), what)
    fields = elements(content(signed, what), what)
    # Version and serial number come first where there are any; the algorithm is the first SEQUENCE.
    start = next((place for place, field in enumerate(fields) if field[0] == SEQUENCE), 0)
    signature = content(bits, what)
    if signature[:1] != b"\0":
        raise EvidenceMalformed(f"{what}: its signature is not a whole number of bytes")
    if fields[start] != algorithm:
        raise EvidenceMalformed(f"{what}: names another signature algorithm outside than inside of what is signed")
    return Frame(signed, fields[start:], signature[1:])


def common_names(name: bytes, what: str) -> list[str] | None:
    """The common names in a Name of a certificate that a library has read, its header included.

    ``None`` where one is neither UTF8String nor PrintableString, and left to the library. Raises
    :class:`EvidenceMalformed`, and ValueError for text that is not of its alphabet. Source: RFC 5280, appendix A.1.
    """
    found = []
    for relative in elements(content(name, what), what):
        for attribute in elements(content(relative, what), what):
            body = content(attribute, what)
            if not body.startswith(_COMMON_NAME):
                continue
            value = body[len(_COMMON_NAME) :]
            if value[:1] not in _TEXT:
                return None
            found.append(content(value, what).decode(_TEXT[value[:1]]))
    return found


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
