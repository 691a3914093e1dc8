"""The protocol's ``snp`` evidence from what a source gave.

The KBS form spells the report field by field; the service must put the bytes together again before it can check the
signature. ``report`` repeats the raw bytes (base64) as an extra member, which other services ignore: where it is
present nothing can be lost in the spelling.
"""

from __future__ import annotations

from attest.attester.errors import EvidenceUnavailable
from attest.attester.raw_evidence import RawEvidence
from attest.evidence.cert_table import parse_cert_table
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.snp_json import encode_snp_json
from attest.evidence.snp_report import SnpReport


def snp_evidence(raw: RawEvidence) -> dict[str, object]:
    """KBS ``snp`` evidence; raises :class:`EvidenceUnavailable` when the source's bytes do not parse."""
    try:
        report = SnpReport.parse(raw.report)
        return encode_snp_json(report, parse_cert_table(raw.certificates))
    except EvidenceMalformed as exc:
        raise EvidenceUnavailable(f"{raw.source}: {exc}") from None
