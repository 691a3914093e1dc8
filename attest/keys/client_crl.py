"""Lists of operators' and auditors' client certificates that count no more (RFC 5280, section 5).

A list is read once, at a start and at each reload, and only one that its authority signed as a whole is taken: lists
of a part of the certificates (deltas, distribution points, other issuers' entries) are refused. Whether it is still
young enough is asked each time somebody shows a certificate: without a list that counts now nobody of that authority
comes in.

Not checked: whether an older list was put back. Who can change files of the service's machine can change more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attest.errors import AttestError, Kind
from attest.files import read_at_most

MAX_FILE = 16 << 20
SKEW = timedelta(minutes=5)
"""An authority's clock may be so far ahead of ours."""
_BEGIN = b"-----BEGIN X509 CRL-----"
_SIGNERS = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)


class ClientCrlRefused(AttestError):
    """A revocation list that cannot be used: not one, not its authority's, of a part of the certificates only."""

    code = "client-crl.refused"


class ClientCrlEnded(AttestError):
    """No list says now whether a certificate still counts: the one there is has ended, or begins later."""

    code = "client-crl.ended"
    kind: Kind = "unavailable"


class CertificateRevoked(AttestError):
    """A client certificate that its authority has taken back."""

    code = "certificate.revoked"
    kind: Kind = "guest"


@dataclass(frozen=True, slots=True)
class ClientAuthority:
    """Whose client certificates count: the file of authorities (PEM), and that of their revocation lists, ``None``:
    none are asked for. A list counts until its next update, or ``max_age`` after it was made if that is earlier.
    """

    ca: Path
    crl: Path | None = None
    max_age: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ClientCrl:
    """One list of one authority, whose public key (DER) verified it: serial numbers and since when.

    ``ends`` is its next update or, where the settings bound its age and that comes first, the end of that.
    """

    authority: bytes
    revoked: Mapping[int, datetime]
    begins: datetime
    ends: datetime
    sha256: bytes


@dataclass(frozen=True, slots=True)
class ClientCrls:
    """The lists of all authorities that have to have one. One that vouches for two roles may have two: both count."""

    lists: tuple[ClientCrl, ...] = ()

    def check(self, certificate: x509.Certificate, authority: bytes, now: datetime) -> None:
        """Whether ``certificate`` of the authority with that key still counts; an authority without a list here needs
        none. Raises CertificateRevoked, ClientCrlEnded.
        """
        for found in self.lists:
            if found.authority != authority:
                continue
            if not found.begins - SKEW <= now < found.ends:
                name = found.sha256.hex()[:12]
                raise ClientCrlEnded(f"revocation list {name}: counts from {found.begins} to {found.ends}, it is {now}")
            if certificate.serial_number in found.revoked:
                raise CertificateRevoked(f"certificate {certificate.serial_number:x}: its authority has taken it back")


def client_crls_of(authority: ClientAuthority) -> tuple[ClientCrl, ...]:
    """The newest list of each authority in its file (DER, or PEM one after the other); none where none are asked for.

    Raises ClientCrlRefused: for what is no list, for one of nobody among them, for an authority without one.
    """
    path = authority.crl
    if path is None:
        return ()
    try:
        known = x509.load_pem_x509_certificates(authority.ca.read_bytes())
    except (OSError, ValueError) as exc:
        raise ClientCrlRefused(f"certificates {authority.ca}: {exc}") from None
    keys = {public_der(certificate): certificate for certificate in known}
    found: dict[bytes, ClientCrl] = {}
    for crl in _parsed(path):
        own = _verified(crl, keys, authority.max_age, path)
        if own.authority not in found or found[own.authority].begins < own.begins:
            found[own.authority] = own
    missing = [keys[key].subject.rfc4514_string() for key in keys if key not in found]
    if missing:
        raise ClientCrlRefused(f"revocation lists {path}: none of {missing[0]}, want one of each authority")
    return tuple(found.values())


def public_der(certificate: x509.Certificate) -> bytes:
    """The public key (SubjectPublicKeyInfo, DER): what an authority is told by, whatever its certificate says."""
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _parsed(path: Path) -> list[x509.CertificateRevocationList]:
    try:
        data = read_at_most(path, MAX_FILE)
    except OSError as exc:
        raise ClientCrlRefused(f"revocation lists {path}: {exc.strerror}") from None
    try:
        if _BEGIN not in data:
            return [x509.load_der_x509_crl(data)]
        return [x509.load_pem_x509_crl(_BEGIN + part) for part in data.split(_BEGIN)[1:]]
    except ValueError as exc:
        raise ClientCrlRefused(f"revocation lists {path}: {exc}") from None


def _verified(
    crl: x509.CertificateRevocationList, keys: Mapping[bytes, x509.Certificate], max_age: timedelta | None, path: Path
) -> ClientCrl:
    own = [key for key, one in keys.items() if crl.issuer == one.subject and _signed_by(crl, one)]
    if not own:
        issuer = crl.issuer.rfc4514_string()
        raise ClientCrlRefused(f"revocation lists {path}: one of {issuer} is signed by none of our authorities")
    if crl.next_update_utc is None:
        raise ClientCrlRefused(f"revocation lists {path}: one without a next update would count for ever")
    revoked = dict(_entries(crl, path))
    ends = crl.next_update_utc if max_age is None else min(crl.next_update_utc, crl.last_update_utc + max_age)
    digest = hashlib.sha256(crl.public_bytes(Encoding.DER)).digest()
    return ClientCrl(own[0], revoked, crl.last_update_utc, ends, digest)


def _signed_by(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    key = authority.public_key()
    return isinstance(key, _SIGNERS) and crl.is_signature_valid(key)


def _entries(crl: x509.CertificateRevocationList, path: Path) -> Iterator[tuple[int, datetime]]:
    """Serial numbers and dates; every critical extension would change what the list or an entry means."""
    try:
        unknown = [extension.oid.dotted_string for extension in crl.extensions if extension.critical]
        for entry in crl:
            unknown += [extension.oid.dotted_string for extension in entry.extensions if extension.critical]
            yield entry.serial_number, entry.revocation_date_utc
    except ValueError as exc:  # extensions are decoded when they are looked at
        raise ClientCrlRefused(f"revocation lists {path}: {exc}") from None
    if unknown:
        raise ClientCrlRefused(f"revocation lists {path}: critical extension {unknown[0]}: want a list of everything")
