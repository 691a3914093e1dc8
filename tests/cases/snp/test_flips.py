"""Every bit of a report counts: one report per version, each of its 9472 bits flipped, is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from attest.endorsement.amd import ChainCache
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.pool import EndorsementSet
from attest.evidence.snp_report import REPORT_SIZE, SnpReport
from attest.verifier.snp import SnpVerifier
from policy.errors import CvmError
from tests.fakes.amd_pki import NOW, FakeAmdPki
from tests.unit.attest.verifier.vector_files import clock_for, listed, read

REAL = ("reports/milan_v2_vcek_071c9784.bin", "reports/milan_v3_vcek_11b7048a.bin", "reports/turin_v5_vcek_85da705e.bin",
        "reports/milan_v5_vlek_13211b50.bin")  # fmt: skip


def accepted_flips(raw: bytes, verifier: SnpVerifier, pool: EndorsementSet, now: object = NOW) -> list[tuple[int, int]]:
    """Byte and bit of every flip that was not refused with an error of ours."""
    accepted = []
    for offset in range(REPORT_SIZE):
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[offset] ^= 1 << bit
            try:
                verifier.verify(SnpReport.parse(bytes(flipped)), pool, now=now, expected_report_data=None)  # type: ignore[arg-type]
            except CvmError:
                continue
            accepted.append((offset, bit))
    return accepted


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_no_bit_of_a_report_can_change(version: int) -> None:
    cpuid = {"cpuid_fam_id": 0, "cpuid_mod_id": 0, "cpuid_step": 0} if version == 2 else {}
    vectors = {"launch_mit_vector": 3, "current_mit_vector": 7} if version == 5 else {}
    world = FakeAmdPki(report={"version": version, **cpuid, **vectors})
    verifier = SnpVerifier(world.anchors, ChainCache())
    pool = EndorsementSet.from_der(world.certificates, with_evidence=True)
    assert verifier.verify(SnpReport.parse(world.raw), pool, now=NOW, expected_report_data=None).snp.version == version
    assert accepted_flips(world.raw, verifier, pool) == []


@pytest.mark.parametrize("name", REAL)
def test_no_bit_of_a_real_report_can_change(vectors: Path, name: str) -> None:
    entry = next(item for item in listed(vectors, "report") if item["file"] == name)
    own = read(vectors, entry["endorsement_files"])
    pool = EndorsementSet.from_der([*own, *read(vectors, entry["chain_files"])], with_evidence=True)
    verifier, now = SnpVerifier(TrustAnchors.amd(), ChainCache()), clock_for(own)
    (raw,) = read(vectors, [name])
    verifier.verify(SnpReport.parse(raw), pool, now=now, expected_report_data=None)
    assert accepted_flips(raw, verifier, pool, now) == []
