"""Every bit counts: one report per version with each of its 9472 bits flipped is refused, certificates likewise."""

from __future__ import annotations

from pathlib import Path

import pytest

from attest.endorsement.amd_cache import ChainCache
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.crl import crl_signed_by
from attest.endorsement.pool import EndorsementSet
from attest.evidence.amd_certificate import AmdCertificate, AmdCrl
from attest.evidence.snp_report import REPORT_SIZE, SnpReport
from attest.verifier.snp import SnpVerifier
from policy.errors import CvmError
from policy.snp import SigningKey
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


def certificate_flips(world: FakeAmdPki, place: int, bits: int) -> list[tuple[int, int]]:
    """Byte and bit of every flip in one certificate with which the report still verified; ``bits`` of each byte."""
    report, chain, accepted = SnpReport.parse(world.raw), list(world.certificates), []
    anchors = TrustAnchors(world.anchors.keys)  # by its key alone, so that a flipped root has no whole one beside it
    for offset in range(len(chain[place])):
        for bit in ((offset + number) % 8 for number in range(bits)):
            flipped = bytearray(chain[place])
            flipped[offset] ^= 1 << bit
            try:
                pool = EndorsementSet.from_der(
                    [*chain[:place], bytes(flipped), *chain[place + 1 :]], with_evidence=True
                )
                SnpVerifier(anchors, ChainCache()).verify(report, pool, now=NOW, expected_report_data=None)
            except CvmError:
                continue
            accepted.append((offset, bit))
    return accepted


@pytest.mark.parametrize(
    ("kind", "place", "bits"),
    [(SigningKey.VCEK, 0, 2), (SigningKey.VCEK, 1, 1), (SigningKey.VCEK, 2, 1), (SigningKey.VLEK, 0, 1), (SigningKey.VLEK, 1, 1)],
    ids=["vcek", "ask", "ark", "vlek", "asvk"],
)  # fmt: skip
def test_no_bit_of_a_certificate_can_change(kind: SigningKey, place: int, bits: int) -> None:
    world = FakeAmdPki(kind=kind)
    whole = EndorsementSet.from_der(world.certificates, with_evidence=True)
    anchors = TrustAnchors(world.anchors.keys)
    SnpVerifier(anchors, ChainCache()).verify(SnpReport.parse(world.raw), whole, now=NOW, expected_report_data=None)
    assert certificate_flips(world, place, bits) == []


def test_a_list_with_any_bit_flipped_is_nobodys() -> None:
    world = FakeAmdPki()
    der, root = world.crl(revoked=[7]), AmdCertificate.parse(world.ark_der)
    assert crl_signed_by(AmdCrl.parse(der), root)
    accepted = []
    for offset in range(len(der)):
        flipped = bytearray(der)
        flipped[offset] ^= 1 << offset % 8
        try:
            crl = AmdCrl.parse(bytes(flipped))
        except CvmError:
            continue
        if crl_signed_by(crl, root):
            accepted.append(offset)
    assert accepted == []
