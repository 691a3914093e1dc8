"""What reading certificates and revocation lists has in common for every vendor: bounds, errors, whole signatures."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from attest.evidence.errors import EvidenceMalformed

MAX_CERTIFICATE = 16 * 1024
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


def check_whole_signature(der: bytes, signature: bytes, what: str) -> None:
    """Nobody signs how many bits at a signature's end do not count, so all must: the last field is whole bytes."""
    if not der.endswith(b"\0" + signature):
        raise EvidenceMalformed(f"{what}: its signature is not a whole number of bytes")
