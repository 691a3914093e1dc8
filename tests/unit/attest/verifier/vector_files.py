"""The real vectors, as the manifest describes them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.pool import EndorsementSet
from attest.evidence.amd_certificate import AmdCertificate
from attest.evidence.snp_report import SnpReport
from attest.verifier.snp import verify_snp
from policy.claims import VerifiedClaims

CHECKED_ON = datetime(2026, 11, 23, tzinfo=UTC)


def listed(vectors: Path, *kinds: str) -> list[dict[str, Any]]:
    """The manifest's entries of these kinds."""
    manifest = json.loads((vectors / "snp" / "manifest.json").read_text())
    return [entry for entry in manifest["vectors"] if entry["kind"] in kinds]


def read(vectors: Path, names: Iterable[str]) -> list[bytes]:
    """Files below ``snp``."""
    return [(vectors / "snp" / name).read_bytes() for name in names]


def clock_for(leaves: Iterable[bytes]) -> datetime:
    """A time at which every leaf is valid: the manifest's day, or the day before an earlier expiry."""
    ends = [AmdCertificate.parse(leaf).not_after for leaf in leaves]
    return min([CHECKED_ON, *(end - timedelta(days=1) for end in ends)])


def verify_files(
    vectors: Path, report: bytes, leaves: Iterable[str], chain: Iterable[str], crls: Iterable[str] = ()
) -> VerifiedClaims:
    """Verify under AMD's roots with files of the manifest."""
    own = read(vectors, leaves)
    pool = EndorsementSet.from_der([*own, *read(vectors, chain)], read(vectors, crls))
    return verify_snp(
        SnpReport.parse(report), pool, anchors=TrustAnchors.amd(), now=clock_for(own), expected_report_data=None
    )
