"""``attest evidence show``: what a file claims. Its first line says that nothing was verified."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path

from attest.cli.evidence_file import read_file, refuse
from attest.cli.evidence_text import field_line, printable
from attest.cli.report_words import details, report_lines
from attest.evidence.amd_certificate import AmdCertificate
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.product import likely_product, tcb_for_display
from attest.evidence.recognise import SnpEvidence, parse_snp_evidence
from attest.evidence.snp_report import SnpReport
from policy.errors import CvmError
from policy.snp import GuestPolicy, KeyInfo, PlatformInfo, SigningKey

SCHEMA = "attest.evidence.show/1"
_WIDTH = 96
_NOT_VERIFIED = "NOT VERIFIED: decoded only; anyone can write such a file (attest evidence verify checks it)"


def show(path: Path, *, as_json: bool) -> int:
    """Decode ``path`` and print it; returns the exit code."""
    try:
        evidence = parse_snp_evidence(read_file(path))
    except CvmError as exc:
        return refuse(exc, as_json=as_json)
    body = _as_json(path, evidence)
    _write(json.dumps(body, indent=2) if as_json else _as_text(path, evidence))
    return 0


def _as_json(path: Path, evidence: SnpEvidence) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "verified": False,
        "file": str(path),
        "kind": evidence.kind,
        "report": report_json(evidence.report),
        "details": details(evidence.report),
        "certificates": [_certificate(der) for der in evidence.certificates],
        "crls": len(evidence.crls),
        "variable_data": None if evidence.hcl is None else evidence.hcl.variable_data.decode("utf-8", "replace"),
        "tpm_quote_extra_data": None if evidence.vtpm is None else evidence.vtpm.quote.extra_data.hex(),
    }


def _as_text(path: Path, evidence: SnpEvidence) -> str:
    lines = [_NOT_VERIFIED, f"{path}: {evidence.kind}", "", *report_lines(evidence.report)]
    for der in evidence.certificates:
        lines += ["", *_certificate_lines(_certificate(der))]
    if evidence.crls:
        lines += ["", f"revocation lists: {len(evidence.crls)}"]
    if evidence.hcl is not None:
        text = evidence.hcl.variable_data.decode("utf-8", "replace")
        lines += ["", "runtime claims of the paravisor (HCL), whose hash is the report data"]
        lines += [f"  {text[start : start + _WIDTH]}" for start in range(0, len(text), _WIDTH)]
    if evidence.vtpm is not None:
        lines += ["", field_line("tpm quote over", evidence.vtpm.quote.extra_data.hex())]
    return "\n".join(printable(line) for line in lines)


def _certificate_lines(certificate: dict[str, object]) -> list[str]:
    lines = [f"certificate {certificate['certificate']}"]
    for name, value in certificate.items():
        if name == "certificate" or value is None:
            continue
        lines.append(field_line(name, value))
        if isinstance(value, str) and len(value) > _WIDTH:
            lines[-1:] = [field_line(name, ""), *(f"    {value[at : at + 64]}" for at in range(0, len(value), 64))]
    return lines


def report_json(report: SnpReport) -> dict[str, object]:
    """The report's fields by the names of the claims; a TCB that does not fit its layout stays hexadecimal."""
    product = likely_product(report)
    shown: dict[str, object] = {"product": None if product is None else f"{product.value} (as the report says)"}
    for item in fields(report):
        if item.name == "raw":
            continue
        value: object = getattr(report, item.name)
        if item.name.endswith("_tcb") and isinstance(value, bytes):
            parts = tcb_for_display(value, product)
            value = value.hex() if parts is None else parts.parts()
        shown[item.name] = _plain(value)
    return shown


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, GuestPolicy | PlatformInfo | KeyInfo):
        return hex(value)
    return value.name if isinstance(value, SigningKey) else value


def _certificate(der: bytes) -> dict[str, object]:
    try:
        certificate = AmdCertificate.parse(der)
    except EvidenceMalformed as exc:
        return {"certificate": f"{len(der)} bytes, unreadable: {exc.message}"}
    amd = certificate.amd
    return {
        "certificate": certificate.subject_cn,
        "issuer": certificate.issuer_cn,
        "not_before": certificate.not_before.isoformat(),
        "not_after": certificate.not_after.isoformat(),
        "sha256": certificate.sha256.hex(),
        "tcb": None if amd is None else amd.tcb.parts(),
        "hwid": amd.hwid.hex() if amd and amd.hwid else None,
        "csp_id": amd.csp_id if amd else None,
    }


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
