"""The certificates inside a quote, summed up for people. Nothing here is verified."""

from __future__ import annotations

from attest.evidence.errors import EvidenceMalformed
from attest.evidence.intel_certificate import IntelCertificate
from attest.evidence.quote import Quote
from attest.evidence.sgx_extension import SgxExtension

_TYPES = {0: "standard", 1: "scalable", 2: "scalable with integrity"}


def intel_certificates(quote: Quote) -> list[dict[str, object]]:
    """One summary for each, in the order they came; what cannot be read is said in its place."""
    try:
        chain = quote.certification.certificates()
    except EvidenceMalformed as exc:
        return [{"certificate": f"unreadable: {exc.message}"}]
    return [_summary(der) for der in chain]


def _summary(der: bytes) -> dict[str, object]:
    try:
        certificate = IntelCertificate.parse(der)
        issuer = certificate.issuer_text
    except EvidenceMalformed as exc:
        return {"certificate": f"{len(der)} bytes, unreadable: {exc.message}"}
    return {
        "certificate": certificate.name,
        "issuer": issuer,
        "not_before": certificate.not_before.isoformat(),
        "not_after": certificate.not_after.isoformat(),
        "sha256": certificate.sha256.hex(),
        **({} if certificate.sgx is None else _platform(certificate.sgx)),
    }


def _platform(sgx: SgxExtension) -> dict[str, object]:
    """Which machine, at which TCB."""
    return {
        "fmspc": sgx.fmspc.hex(),
        "pceid": sgx.pceid.hex(),
        "ppid": sgx.ppid.hex(),
        "piid": None if sgx.piid is None else sgx.piid.hex(),
        "sgx_type": f"{sgx.sgx_type} {_TYPES.get(sgx.sgx_type, 'unknown')}",
        "cpusvn": sgx.cpusvn.hex(),
        "tcb_components": " ".join(map(str, sgx.components)),
        "pcesvn": sgx.pcesvn,
        "dynamic_platform": sgx.dynamic_platform,
        "cached_keys": sgx.cached_keys,
        "smt_enabled": sgx.smt_enabled,
    }
