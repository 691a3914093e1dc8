"""``attest evidence show``: what a file claims. Its first line says that nothing was verified."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from attest.cli.amd_certificates import certificate_lines, certificate_of, collateral_json, collateral_lines
from attest.cli.evidence_file import read_file, refuse
from attest.cli.evidence_replay import show_log
from attest.cli.evidence_text import field_line, printable
from attest.cli.intel_certificates import intel_certificates
from attest.cli.quote_words import body_details, fields_json, quote_json, quote_lines, tdreport_lines
from attest.cli.report_words import details, report_lines
from attest.evidence.collateral_file import CollateralFile, read_collateral_file
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.hcl import HclBlob
from attest.evidence.product import likely_product, tcb_for_display
from attest.evidence.recognise import Evidence, QuoteEvidence, SnpEvidence, parse_evidence, recognise
from attest.evidence.snp_report import SnpReport
from attest.evidence.vtpm import VtpmEvidence
from policy.errors import CvmError
from policy.snp import GuestPolicy, KeyInfo, PlatformInfo, SigningKey

SCHEMA = "attest.evidence.show/1"
_WIDTH = 96
_NOT_VERIFIED = "NOT VERIFIED: decoded only; anyone can write such a file (attest evidence verify checks it)"
_COLLATERAL_NOT_VERIFIED = "NOT VERIFIED: decoded only; anyone can write such a file (it counts in a report's chain)"


def show(path: Path, *, as_json: bool) -> int:
    """Decode ``path`` and print it; returns the exit code."""
    try:
        data = read_file(path)
        if _is_event_log(data):
            return show_log(path, data, as_json=as_json, first_line=_NOT_VERIFIED, schema=SCHEMA)
        _write(_shown(path, data, as_json=as_json))
    except CvmError as exc:
        return refuse(exc, as_json=as_json)
    return 0


def _is_event_log(data: bytes) -> bool:
    try:
        return recognise(data) == "event-log"
    except EvidenceMalformed:
        return False


def _shown(path: Path, data: bytes, *, as_json: bool) -> str:
    """Evidence, or else the certificates and lists of AMD that are in the file."""
    try:
        evidence = parse_evidence(data)
    except EvidenceMalformed:
        found = read_collateral_file(data)
        if not found.certificates and not found.crls:
            raise
        return _collateral_text(path, found, as_json=as_json)
    return json.dumps(_as_json(path, evidence), indent=2) if as_json else _as_text(path, evidence)


def _collateral_text(path: Path, found: CollateralFile, *, as_json: bool) -> str:
    if as_json:
        head = {"schema": SCHEMA, "verified": False, "file": str(path), "kind": "amd-collateral"}
        return json.dumps(head | collateral_json(found), indent=2)
    lines = [_COLLATERAL_NOT_VERIFIED, f"{path}: certificates and lists of AMD", *collateral_lines(found)]
    return "\n".join(printable(line) for line in lines)


def _as_json(path: Path, evidence: Evidence) -> dict[str, object]:
    head = {"schema": SCHEMA, "verified": False, "file": str(path), "kind": evidence.kind}
    if isinstance(evidence, SnpEvidence):
        return head | _snp_json(evidence)
    if isinstance(evidence, QuoteEvidence):
        return head | _quote_json(evidence)
    report = evidence.report
    return head | {
        "tdreport": fields_json(report),
        "hashes_fit": {"tee_tcb_info": report.tee_tcb_info_hash_fits, "tee_info": report.tee_info_hash_fits},
        "details": body_details(report),
        "variable_data": _variable_text(evidence.hcl),
    }


def _snp_json(evidence: SnpEvidence) -> dict[str, object]:
    return {
        "report": report_json(evidence.report),
        "details": details(evidence.report),
        "certificates": [certificate_of(der) for der in evidence.certificates],
        "crls": len(evidence.crls),
        "variable_data": _variable_text(evidence.hcl),
        "tpm_quote_extra_data": None if evidence.vtpm is None else evidence.vtpm.quote.extra_data.hex(),
    }


def _quote_json(evidence: QuoteEvidence) -> dict[str, object]:
    vtpm = evidence.vtpm
    return {
        "quote": quote_json(evidence.quote),
        "details": body_details(evidence.quote.body),
        "certificates": intel_certificates(evidence.quote),
        "event_log_bytes": None if evidence.event_log is None else len(evidence.event_log),
        "agent_log": evidence.agent_log,
        "variable_data": None if vtpm is None else _variable_text(vtpm.hcl),
        "tpm_quote_extra_data": None if vtpm is None else vtpm.quote.extra_data.hex(),
    }


def _as_text(path: Path, evidence: Evidence) -> str:
    lines = [_NOT_VERIFIED, f"{path}: {evidence.kind}", ""]
    if isinstance(evidence, SnpEvidence):
        lines += _snp_lines(evidence)
    elif isinstance(evidence, QuoteEvidence):
        lines += _quote_lines(evidence)
    else:
        lines += [*tdreport_lines(evidence.report), *_hcl_lines(evidence.hcl)]
    return "\n".join(printable(line) for line in lines)


def _snp_lines(evidence: SnpEvidence) -> Iterator[str]:
    yield from report_lines(evidence.report)
    for der in evidence.certificates:
        yield from ("", *certificate_lines(certificate_of(der)))
    if evidence.crls:
        yield from ("", f"revocation lists: {len(evidence.crls)}")
    yield from _hcl_lines(evidence.hcl)
    yield from _vtpm_lines(evidence.vtpm)


def _quote_lines(evidence: QuoteEvidence) -> Iterator[str]:
    yield from quote_lines(evidence.quote)
    for certificate in intel_certificates(evidence.quote):
        yield from ("", *certificate_lines(certificate))
    if evidence.event_log is not None:
        yield from ("", f"event log: {len(evidence.event_log)} bytes (attest evidence replay explains them)")
    if evidence.agent_log is not None:
        yield from ("", "log of the guest's agent", *(f"  {line}" for line in evidence.agent_log.splitlines()))
    if evidence.vtpm is not None:
        yield from _hcl_lines(evidence.vtpm.hcl)
        yield from _vtpm_lines(evidence.vtpm)


def _hcl_lines(blob: HclBlob | None) -> Iterator[str]:
    text = _variable_text(blob)
    if text is not None:
        yield from ("", "runtime claims of the paravisor (HCL), whose hash is the report data")
        yield from (f"  {text[start : start + _WIDTH]}" for start in range(0, len(text), _WIDTH))


def _vtpm_lines(vtpm: VtpmEvidence | None) -> Iterator[str]:
    if vtpm is not None:
        yield from ("", field_line("tpm quote over", vtpm.quote.extra_data.hex()))


def _variable_text(blob: HclBlob | None) -> str | None:
    return None if blob is None else blob.variable_data.decode("utf-8", "replace")


def report_json(report: SnpReport) -> dict[str, object]:
    """The report's fields by the names of the claims; a TCB that does not fit its layout stays hexadecimal."""
    product = likely_product(report)
    shown: dict[str, object] = {"product": None if product is None else f"{product.value} (as the report says)"}
    for name, value in report._asdict().items():
        if name == "raw":
            continue
        if name.endswith("_tcb") and isinstance(value, bytes):
            parts = tcb_for_display(value, product)
            value = value.hex() if parts is None else parts.parts()
        shown[name] = _plain(value)
    return shown


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, GuestPolicy | PlatformInfo | KeyInfo):
        return hex(value)
    return value.name if isinstance(value, SigningKey) else value


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
