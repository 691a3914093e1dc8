"""The protocol's evidence from what a source gave.

The KBS form of ``snp`` spells the report field by field; the service must put the bytes together again before it can
check the signature. ``report`` repeats the raw bytes (base64) as an extra member, which other services ignore: where it
is present nothing can be lost in the spelling. ``tdx`` is the quote and the event log, each in base64.
"""

from __future__ import annotations

import base64

from attest.attester.errors import EvidenceUnavailable
from attest.attester.raw_evidence import TDX, RawEvidence
from attest.evidence.cert_table import parse_cert_table
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.snp_json import encode_snp_json
from attest.evidence.snp_report import SnpReport


def kbs_evidence(raw: RawEvidence) -> dict[str, object]:
    """The form for the TEE of ``raw``; raises :class:`EvidenceUnavailable` when an SNP source's bytes do not parse."""
    return _tdx(raw) if raw.tee == TDX else snp_evidence(raw)


def _tdx(raw: RawEvidence) -> dict[str, object]:
    """The bytes as they are: the service parses them, and the guest would gain nothing by doing it too."""
    log = base64.b64encode(raw.event_log).decode("ascii") if raw.event_log else None
    return {"quote": base64.b64encode(raw.report).decode("ascii"), "cc_eventlog": log}


def snp_evidence(raw: RawEvidence) -> dict[str, object]:
    """KBS ``snp`` evidence; raises :class:`EvidenceUnavailable` when the source's bytes do not parse."""
    try:
        report = SnpReport.parse(raw.report)
        return encode_snp_json(report, parse_cert_table(raw.certificates))
    except EvidenceMalformed as exc:
        raise EvidenceUnavailable(f"{raw.source}: {exc}") from None
