"""The Azure HCL blob (TPM NV index 0x01400001): a report made at boot, and the JSON whose hash it carries.

    0x000  32    header: "HCLA", version, size of what follows is used, request type, status, three reserved
    0x020  1184  the report: an SNP report, or a TDREPORT and 160 zeros
    0x4C0  20    request data: size, version, report type (2 = SNP, 4 = TDX), hash type, size of the variable data
    0x4D4  4     versions 2 and 3 of the request data only: capabilities of the paravisor, nothing that is measured
    …            variable data: JSON with the vTPM's attestation key, VM configuration and user data; then zeros

REPORT_DATA is the hash of the variable data, padded with zeros, fixed at boot: freshness comes from a TPM quote signed
with the attestation key in that JSON, never from this report. A TDREPORT cannot be verified elsewhere at all: what
counts is a TD quote with the same REPORTDATA. Source: Microsoft, *Guest attestation for confidential VMs*, "HCL
report"; the constants were checked against real blobs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.snp_report import REPORT_SIZE, SnpReport
from attest.evidence.tdreport_struct import TDREPORT_SIZE, TdReportStruct, parse_tdreport
from policy.wire import ByteReader

MAGIC = b"HCLA"
HEADER = 32
"""Bytes before the report."""
_REPORT_TYPE_SNP, _REPORT_TYPE_TDX = 2, 4
_HASHES = {1: "sha256", 2: "sha384", 3: "sha512"}
_REQUEST_HEADER = 20
_EXTENSION = {1: 0, 2: 4, 3: 4}
_MAX_SIZE = 64 * 1024


@dataclass(frozen=True, slots=True)
class HclBlob:
    """A report and the variable data it should vouch for. Nothing is verified, not even the hash."""

    report: SnpReport | TdReportStruct
    variable_data: bytes = field(repr=False)
    hash_name: str

    @property
    def expected_report_data(self) -> bytes:
        """The 64 bytes REPORT_DATA must be for the variable data to be the paravisor's."""
        return hashlib.new(self.hash_name, self.variable_data).digest().ljust(64, b"\0")


def parse_hcl(data: bytes) -> HclBlob:
    """Raises :class:`EvidenceMalformed`, and :class:`EvidenceUnsupported` for a report of neither SNP nor TDX."""
    if len(data) > _MAX_SIZE:
        raise EvidenceMalformed(f"HCL blob: {len(data)} bytes, want at most {_MAX_SIZE}")
    reader = ByteReader(data, "HCL blob", error=EvidenceMalformed)
    if reader.take(4, "magic") != MAGIC:
        raise EvidenceMalformed(f"HCL blob: magic at 0x0 is {bytes(data[:4]).hex()}, want {MAGIC.hex()} (HCLA)")
    reader.skip(HEADER - len(MAGIC), "header")
    raw_report = reader.take(REPORT_SIZE, "report")
    data_size, version, report_type, hash_type, variable_size = (
        reader.u32(name) for name in ("data size", "version", "report type", "hash type", "variable data size")
    )
    if report_type not in (_REPORT_TYPE_SNP, _REPORT_TYPE_TDX):
        raise EvidenceUnsupported(f"HCL blob: report type {report_type}, want 2 (SNP) or 4 (TDX)")
    if hash_type not in _HASHES:
        raise EvidenceUnsupported(f"HCL blob: hash type {hash_type}, want 1, 2 or 3")
    if version not in _EXTENSION:
        raise EvidenceUnsupported(f"HCL blob: request data version {version}, want 1, 2 or 3")
    more = _REQUEST_HEADER + _EXTENSION[version]
    if data_size != variable_size + more:
        raise reader.fail(f"request data of {data_size} bytes, want {more} more than the variable data")
    reader.skip(_EXTENSION[version], "capabilities")
    variable = reader.take(variable_size, "variable data")
    reader.zero(reader.remaining, "padding")
    report = SnpReport.parse(raw_report) if report_type == _REPORT_TYPE_SNP else _tdreport(raw_report)
    return HclBlob(report, variable, _HASHES[hash_type])


def _tdreport(raw: bytes) -> TdReportStruct:
    reader = ByteReader(raw, "HCL blob: TDREPORT", error=EvidenceMalformed)
    report = parse_tdreport(reader.take(TDREPORT_SIZE, "report"))
    reader.zero(reader.remaining, "padding")
    return report
