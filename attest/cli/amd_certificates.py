"""AMD's certificates and revocation lists in words and JSON, alone or beside evidence. Nothing is verified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attest.cli.evidence_text import field_line
from attest.evidence.amd_certificate import AmdCertificate, AmdCrl
from attest.evidence.collateral_file import CollateralFile
from attest.evidence.errors import EvidenceMalformed

_WIDTH = 96
_MOST_SERIALS = 1000


def certificate_of(der: bytes) -> dict[str, object]:
    """One certificate's fields, or why it cannot be read."""
    try:
        return certificate_json(AmdCertificate.parse(der))
    except EvidenceMalformed as exc:
        return {"certificate": f"{len(der)} bytes, unreadable: {exc.message}"}


def certificate_json(certificate: AmdCertificate) -> dict[str, object]:
    """The fields that matter to a chain, and AMD's own extensions; ``None`` for what this kind does not have."""
    amd = certificate.amd
    return {
        "certificate": certificate.subject_cn,
        "issuer": certificate.issuer_cn,
        "serial_number": None if amd else f"0x{certificate.parsed.serial_number:x}",
        "not_before": certificate.not_before.isoformat(),
        "not_after": certificate.not_after.isoformat(),
        "sha256": certificate.sha256.hex(),
        "struct_version": amd.struct_version if amd else None,
        "product_name": amd.product_name if amd else None,
        "tcb": amd.tcb.parts() if amd else None,
        "hwid": amd.hwid.hex() if amd and amd.hwid else None,
        "csp_id": amd.csp_id if amd else None,
    }


def certificate_lines(certificate: Mapping[str, object]) -> list[str]:
    """What :func:`certificate_json` says, one field a line; long values below their name."""
    lines = [f"certificate {certificate['certificate']}"]
    for name, value in certificate.items():
        if name == "certificate" or value is None:
            continue
        lines.append(field_line(name, value))
        if isinstance(value, str) and len(value) > _WIDTH:
            lines[-1:] = [field_line(name, ""), *(f"    {value[at : at + 64]}" for at in range(0, len(value), 64))]
    return lines


def collateral_json(found: CollateralFile) -> dict[str, object]:
    """All that a file of certificates and lists holds."""
    return {
        "certificates": [certificate_json(certificate) for certificate in found.certificates],
        "crls": [_crl_json(crl) for crl in found.crls],
        "damaged": [problem.message for problem in found.damaged],
    }


def collateral_lines(found: CollateralFile) -> Iterator[str]:
    """The same as text."""
    for certificate in found.certificates:
        yield from ("", *certificate_lines(certificate_json(certificate)))
    for crl in found.crls:
        yield from ("", f"revocation list of ARK-{crl.product.value}")
        yield from (field_line(name, value) for name, value in _crl_json(crl).items() if name != "product")
    for problem in found.damaged:
        yield from ("", problem.message)


def _crl_json(crl: AmdCrl) -> dict[str, object]:
    serials = sorted(crl.revoked)
    return {
        "product": crl.product.value,
        "this_update": crl.this_update.isoformat(),
        "next_update": None if crl.next_update is None else crl.next_update.isoformat(),
        "revoked": len(serials),
        "serial_numbers": ", ".join(f"0x{serial:x}" for serial in serials[:_MOST_SERIALS]) or "none",
        "sha256": crl.sha256.hex(),
    }
