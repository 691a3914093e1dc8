"""Which evidence is this? Decided by content, never by a file's name.

1184 bytes                 SNP report                     snp-report
1184 bytes + GHCB table    extended SNP report            snp-extended-report
u32 0, u32 1184, 24 zeros  SNP_REPORT_RSP of the kernel   snp-report
"HCLA"                     Azure HCL blob                 azure-hcl
{ … }                      KBS evidence                   kbs-snp, azure-vtpm, kbs-tdx, azure-vtpm-tdx
{ … } of any other make    the one SNP report in it       json
anything else              the one SNP report in it       embedded
u16 3..5, u16 2 or 3       quote                          tdx-quote, sgx-quote
0x81, 1024 bytes           TDREPORT                       tdreport
proto of a report          go-sev-guest's message         snp-proto
"Spec ID Event03" at 32    event log, no evidence         event-log
[ … ]                      event log in JSON              event-log
text, gzip                 any of these in hexadecimal or base64, compressed, or both
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from attest.evidence.amd_certificate import AmdCrl
from attest.evidence.cert_table import CRL, NAMES, CertEntry, parse_cert_table
from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.found_bytes import find_endorsements, find_report
from attest.evidence.found_json import find_evidence
from attest.evidence.hcl import HEADER, MAGIC, HclBlob, parse_hcl
from attest.evidence.quote import TEE_SGX, TEE_TDX, Quote, parse_quote
from attest.evidence.snp_json import decode_snp_json
from attest.evidence.snp_proto import decode_snp_proto, looks_like_snp_proto
from attest.evidence.snp_report import REPORT_SIZE, SnpReport
from attest.evidence.tdreport_struct import REPORT_TYPE_TDX, TDREPORT_SIZE, TdReportStruct, parse_tdreport
from attest.evidence.tdx_json import decode_tdx_json
from attest.evidence.vtpm import VtpmEvidence, decode_td_vtpm_json, decode_vtpm_json
from policy.spelled import spelled_bytes, unzipped
from policy.strictjson import strict_json

MAX_EVIDENCE = 4 << 20
_RESPONSE = struct.pack("<II24x", 0, REPORT_SIZE)
_REPORT_VERSIONS = range(1, 6)
_LARGEST_REPORT_VERSION = 0xFF
_DIGITS = re.compile(rb"(?:\s*+[0-9A-Za-z+/_-]){8}")
_CERTIFICATES = (b"\x30\x82", b"-----BEGIN ")
_COLLATERAL = "it looks like certificates or lists: give them with --collateral, beside a report"
_SPEC_ID = slice(32, 47), b"Spec ID Event03"


@dataclass(frozen=True, slots=True)
class SnpEvidence:
    """Recognised and parsed evidence of an SNP guest, unverified.

    ``certificates`` and ``crls`` are DER as they came along. ``hcl`` is set where REPORT_DATA must be the hash of
    an HCL blob's variable data, ``vtpm`` where a TPM quote came with it.
    """

    kind: str
    report: SnpReport
    certificates: tuple[bytes, ...] = field(default=(), repr=False)
    crls: tuple[bytes, ...] = field(default=(), repr=False)
    hcl: HclBlob | None = None
    vtpm: VtpmEvidence | None = None


@dataclass(frozen=True, slots=True)
class QuoteEvidence:
    """Recognised and parsed evidence of a TD or an SGX enclave, unverified; its certificates are in the quote.

    ``event_log`` is what came along to explain the RTMRs, as bytes not yet read, ``None`` where nothing came;
    ``agent_log`` the text older agents logged their own extends in. ``vtpm`` is set for a TD under Azure's paravisor:
    REPORTDATA must then be the hash of its HCL blob's variable data.
    """

    kind: str
    quote: Quote
    event_log: bytes | None = field(default=None, repr=False)
    agent_log: str | None = field(default=None, repr=False)
    vtpm: VtpmEvidence | None = None


@dataclass(frozen=True, slots=True)
class TdReportEvidence:
    """A TDREPORT, alone or in an HCL blob: worth looking at, never worth believing away from its machine."""

    kind: str
    report: TdReportStruct
    hcl: HclBlob | None = None


Evidence = SnpEvidence | QuoteEvidence | TdReportEvidence


def recognise(data: bytes) -> str:
    """The kind of ``data``, from its first bytes; :class:`EvidenceMalformed` when it looks like nothing known."""
    return _kind(_plain(data))


def _kind(data: bytes) -> str:
    if not data:
        raise EvidenceMalformed("evidence: empty, got 0 bytes")
    if data[:4] == MAGIC:
        return "azure-hcl"
    if data.lstrip()[:1] == b"{":
        return _json_kind(_json(data))
    if data.lstrip()[:1] == b"[" or data[_SPEC_ID[0]] == _SPEC_ID[1]:
        return "event-log"
    return "snp-proto" if looks_like_snp_proto(data) else _binary_kind(data)


def _binary_kind(data: bytes) -> str:
    if len(data) == TDREPORT_SIZE and data[0] == REPORT_TYPE_TDX:
        return "tdreport"
    if len(data) >= 8 and _is_response(data):
        return "snp-report"
    if len(data) >= 8:
        version, key_type, tee_type = struct.unpack_from("<HHI", data)
        if version in (3, 4, 5) and key_type in (2, 3) and tee_type in (TEE_SGX, TEE_TDX):
            return "tdx-quote" if tee_type == TEE_TDX else "sgx-quote"
        if len(data) == REPORT_SIZE or struct.unpack_from("<I", data)[0] <= _LARGEST_REPORT_VERSION:
            return "snp-report" if len(data) <= REPORT_SIZE else "snp-extended-report"
    if find_report(data) is not None:
        return "embedded"
    raise EvidenceMalformed(
        f"evidence: {len(data)} bytes beginning {data[:8].hex()} are of no known kind",
        hint=_COLLATERAL if data.startswith(_CERTIFICATES) else None,
    )


def parse_evidence(data: bytes) -> Evidence:
    """Recognise and parse; raises :class:`EvidenceMalformed`, or :class:`EvidenceUnsupported` naming the kind."""
    if len(data) > MAX_EVIDENCE:
        raise EvidenceMalformed(f"evidence: {len(data)} bytes, want at most {MAX_EVIDENCE}")
    if len(data) == REPORT_SIZE and data[1:4] == b"\0\0\0" and data[0] in _REPORT_VERSIONS:
        return SnpEvidence("snp-report", SnpReport.parse(data))  # nothing else looks like it, and nearly all are such
    data = _plain(data)
    kind = _kind(data)
    reader = _READERS.get(kind)
    return parse_json_evidence(kind, _unwrap_json(_json(data))) if reader is None else reader(data)


def parse_snp_evidence(data: bytes) -> SnpEvidence:
    """:func:`parse_evidence` for a caller that can use nothing but an SNP report."""
    evidence = parse_evidence(data)
    if not isinstance(evidence, SnpEvidence):
        raise EvidenceUnsupported(f"evidence: {evidence.kind}, want an SNP report")
    return evidence


def parse_json_evidence(kind: str, value: object) -> Evidence:
    """Evidence of the KBS protocol, already parsed JSON, of a kind its request names."""
    if kind == "kbs-snp":
        snp = decode_snp_json(value)
        return _with_certificates(kind, snp.report, snp.certificates)
    if kind == "kbs-tdx":
        tdx = decode_tdx_json(value)
        return QuoteEvidence(kind, tdx.quote, tdx.event_log, tdx.agent_log)
    vtpm = decode_td_vtpm_json(value) if kind == "azure-vtpm-tdx" else decode_vtpm_json(value)
    if vtpm.td_quote is not None:
        if not isinstance(vtpm.hcl.report, TdReportStruct):
            raise EvidenceMalformed("vTPM evidence: a TD quote beside an SNP report")
        return QuoteEvidence(kind, vtpm.td_quote, vtpm=vtpm)
    if not isinstance(vtpm.hcl.report, SnpReport):
        raise EvidenceMalformed("vTPM evidence: a TDREPORT without a TD quote")
    return SnpEvidence(kind, vtpm.hcl.report, vtpm.certificates, hcl=vtpm.hcl, vtpm=vtpm)


def _of_hcl(kind: str, blob: HclBlob) -> Evidence:
    if isinstance(blob.report, SnpReport):
        return SnpEvidence(kind, blob.report, hcl=blob)
    return TdReportEvidence(kind, blob.report, hcl=blob)


def _report(data: bytes) -> Evidence:
    return SnpEvidence("snp-report", SnpReport.parse(_unwrap_response(data) if _is_response(data) else data))


def _extended(data: bytes) -> Evidence:
    report = SnpReport.parse(data[:REPORT_SIZE])
    return _with_certificates("snp-extended-report", report, parse_cert_table(data[REPORT_SIZE:], base=REPORT_SIZE))


def _message(data: bytes) -> Evidence:
    proto = decode_snp_proto(data)
    return SnpEvidence("snp-proto", SnpReport.parse(proto.raw), certificates=proto.certificates)


def _embedded(data: bytes) -> Evidence:
    raw = find_report(data) or b""
    blob = _blob_around(data, data.find(raw))
    return _with_endorsements(SnpEvidence("embedded", SnpReport.parse(raw), hcl=blob), find_endorsements(data))


def _blob_around(data: bytes, report_at: int) -> HclBlob | None:
    """The HCL blob whose report stands at ``report_at``: what it says of itself must still be bound to the report."""
    start, request = report_at - HEADER, report_at + REPORT_SIZE
    if report_at < HEADER or not data.startswith(MAGIC, start) or len(data) < request + 4:
        return None
    return parse_hcl(data[start : request + int.from_bytes(data[request : request + 4], "little")])


def _blob(data: bytes) -> Evidence:
    return _of_hcl("azure-hcl", parse_hcl(data))


def _event_log(data: bytes) -> Evidence:
    raise EvidenceUnsupported("evidence: an event log explains a quote and proves nothing without it")


def _other_json(data: bytes) -> Evidence:
    raw, endorsements = find_evidence(_json(data))
    evidence = parse_evidence(raw)
    if not isinstance(evidence, SnpEvidence):
        raise EvidenceUnsupported(f"evidence: {evidence.kind} in JSON of an unknown make, want an SNP report")
    return _with_endorsements(evidence, endorsements)


def _with_endorsements(evidence: SnpEvidence, endorsements: tuple[bytes, ...]) -> SnpEvidence:
    crls = dict.fromkeys(filter(_is_crl, endorsements))
    certificates = (*evidence.certificates, *(der for der in endorsements if der not in crls))
    return replace(evidence, certificates=certificates, crls=(*evidence.crls, *crls))


def _is_crl(der: bytes) -> bool:
    try:
        AmdCrl.parse(der)
    except EvidenceMalformed:
        return False
    return True


def _with_certificates(kind: str, report: SnpReport, entries: tuple[CertEntry, ...]) -> SnpEvidence:
    known = [entry for entry in entries if entry.guid in NAMES]
    return SnpEvidence(
        kind,
        report,
        certificates=tuple(der for entry in known if entry.guid != CRL for der in entry.ders),
        crls=tuple(der for entry in known if entry.guid == CRL for der in entry.ders),
    )


def _plain(data: bytes) -> bytes:
    """``data``, or what it spells as text (nothing else begins with eight such digits), or was before gzip."""
    spelled = spelled_bytes(data) if _DIGITS.match(data) else None
    return unzipped(data if spelled is None else spelled, MAX_EVIDENCE)


def _is_response(data: bytes) -> bool:
    """``struct snp_report_resp`` as the guest's ioctl returns it: status 0, size, 24 reserved bytes, report, zeros."""
    return data.startswith(_RESPONSE) and len(data) >= len(_RESPONSE) + REPORT_SIZE


def _unwrap_response(data: bytes) -> bytes:
    end = len(_RESPONSE) + REPORT_SIZE
    if any(data[end:]):
        raise EvidenceMalformed(f"report response: bytes after 0x{end:x} must be zero")
    return data[len(_RESPONSE) : end]


def _json(data: bytes) -> object:
    return strict_json(data, "evidence", max_bytes=MAX_EVIDENCE, error=EvidenceMalformed)


def _unwrap_json(value: object) -> object:
    """Evidence as it stands in a KBS request: ``{"tee-evidence": {"primary_evidence": …}}``, whole or any inner
    part; before protocol 0.2 ``tee-evidence`` is the evidence's JSON as a string.
    """
    for member in ("tee-evidence", "primary_evidence"):
        if isinstance(value, dict) and member in value:
            value = value[member]
            if isinstance(value, str):
                value = _json(value.encode("utf-8"))
    return value


def _only_a_report(members: Mapping[str, object]) -> bool:
    """The other spelling of KBS evidence; anything longer than its base64 is of another make."""
    report = members.get("report")
    return set(members) == {"report"} and isinstance(report, str) and len(report) < 2 * REPORT_SIZE


def _json_kind(value: object) -> str:
    evidence = _unwrap_json(value)
    members = evidence if isinstance(evidence, dict) else {}
    if isinstance(members.get("attestation_report"), dict) or _only_a_report(members):
        return "kbs-snp"
    if "tpm_quote" in members or {"quote", "report"} <= set(members):
        return "azure-vtpm" if "td_quote" not in members else "azure-vtpm-tdx"
    return "kbs-tdx" if "quote" in members and "endorsements" not in members else "json"


_READERS: dict[str, Callable[[bytes], Evidence]] = {
    "tdx-quote": lambda data: QuoteEvidence("tdx-quote", parse_quote(data)),
    "sgx-quote": lambda data: QuoteEvidence("sgx-quote", parse_quote(data)),
    "tdreport": lambda data: TdReportEvidence("tdreport", parse_tdreport(data)),
    "snp-report": _report,
    "snp-extended-report": _extended,
    "snp-proto": _message,
    "embedded": _embedded,
    "azure-hcl": _blob,
    "event-log": _event_log,
    "json": _other_json,
}
