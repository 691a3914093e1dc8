"""What a source of evidence gives, and how it says that it does not exist here."""

from __future__ import annotations

from typing import NamedTuple

from attest.attester.errors import EvidenceUnavailable

SNP, TDX = "snp", "tdx"
"""Kinds of TEE by the names of the KBS protocol."""
MAX_CERTIFICATES = 256 * 1024
"""Bytes of a certificate table that are believed; real ones have one or two pages."""
REPORT_DATA_BYTES = 64
# Offsets of REPORTDATA and MRTD in a quote: header of 48 bytes, in version 5 six bytes more, then the TD report.
_BODY_AT = {4: 48, 5: 54}
_REPORT_DATA_AT, _MRTD_AT, _MRCONFIGID_AT = 520, 136, 184
_HOST_DATA_AT, _HOST_DATA_BYTES, _MRCONFIGID_BYTES = 0xC0, 32, 48


class RawEvidence(NamedTuple):
    """What a source gave: the raw report (or quote), the certificate table (may be empty), the source's name, the TEE,
    and the event log (TDX; may be empty).
    """

    report: bytes
    certificates: bytes
    source: str
    tee: str = SNP
    event_log: bytes = b""

    @property
    def report_data(self) -> bytes:
        """The 64 bytes the report is about; empty where it is too short or of an unknown version."""
        at = 0x50 if self.tee == SNP else self._body_at() + _REPORT_DATA_AT
        return self.report[at : at + REPORT_DATA_BYTES]

    @property
    def launch_digest(self) -> bytes:
        """MEASUREMENT or MRTD, 48 bytes, for people to see; nothing is decided by it here."""
        at = 0x90 if self.tee == SNP else self._body_at() + _MRTD_AT
        return self.report[at : at + 48]

    @property
    def binding(self) -> bytes:
        """What the host bound to the launch: HOST_DATA (32 bytes) or MRCONFIGID (48)."""
        if self.tee == SNP:
            return self.report[_HOST_DATA_AT : _HOST_DATA_AT + _HOST_DATA_BYTES]
        at = self._body_at() + _MRCONFIGID_AT
        return self.report[at : at + _MRCONFIGID_BYTES]

    def _body_at(self) -> int:
        return _BODY_AT.get(int.from_bytes(self.report[:2], "little"), len(self.report))


class SourceAbsent(EvidenceUnavailable):
    """This source does not exist here: the next one may be tried. Any other failure ends the search."""

    code = "guest.evidence-absent"
