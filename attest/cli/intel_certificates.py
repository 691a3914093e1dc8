"""The certificates inside a quote, summed up for people. Nothing here is verified."""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.x509.oid import NameOID

from attest.evidence.errors import EvidenceMalformed
from attest.evidence.quote import Quote


def intel_certificates(quote: Quote) -> list[dict[str, object]]:
    """One summary for each, in the order they came; what cannot be read is said in its place."""
    try:
        chain = quote.certification.certificates()
    except EvidenceMalformed as exc:
        return [{"certificate": f"unreadable: {exc.message}"}]
    return [_summary(der) for der in chain]


def _summary(der: bytes) -> dict[str, object]:
    try:
        certificate = x509.load_der_x509_certificate(der)
        subject, issuer = _name(certificate.subject), _name(certificate.issuer)
    except ValueError as exc:
        return {"certificate": f"{len(der)} bytes, unreadable: {exc}"}
    return {
        "certificate": subject,
        "issuer": issuer,
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "sha256": hashlib.sha256(der).hexdigest(),
    }


def _name(name: x509.Name) -> str:
    values = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(values[0].value) if values else name.rfc4514_string()
