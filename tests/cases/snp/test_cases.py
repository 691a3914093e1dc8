"""Every step of the verifier refuses what only it can notice, and nothing else is wrong in the case."""

from __future__ import annotations

import pytest

from attest.endorsement.errors import STEPS, VerificationFailed
from attest.endorsement.pool import EndorsementSet
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.snp_report import SnpReport
from attest.verifier import snp as verifier
from attest.verifier.snp import verify_snp
from policy.errors import CvmError
from policy.snp import SigningKey
from policy.vocab import Platform, SnpProduct
from tests.cases.snp.cases import CASES, Case
from tests.fakes.amd_pki import NOW, OFFSETS, FakeAmdPki


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_step_that_must_notice_notices(case: Case) -> None:
    with pytest.raises(VerificationFailed) as caught:
        case.attempt()
    assert caught.value.step == case.step, caught.value
    assert caught.value.code == f"verification.{case.step}"


def test_every_step_has_a_case() -> None:
    documented = {line.split()[1] for line in (verifier.__doc__ or "").splitlines() if line[:6].strip().isdigit()}
    assert {case.step for case in CASES} == documented <= set(STEPS)


@pytest.mark.parametrize("product", SnpProduct)
@pytest.mark.parametrize("kind", [SigningKey.VCEK, SigningKey.VLEK])
def test_the_unbroken_world_is_genuine(product: SnpProduct, kind: SigningKey) -> None:
    world = FakeAmdPki(product=product, kind=kind)
    claims = world.verify(crls=[world.crl()], expected_report_data=b"\x5a" * 64)
    assert claims.platform is Platform.EMULATED_SNP
    assert claims.emulated
    assert claims.snp.product is product
    assert claims.snp.signing_key is kind
    assert claims.snp.revocation == "good"
    assert claims.snp.root.startswith("test:")


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_report_versions_two_to_five_verify(version: int) -> None:
    cpuid = {"cpuid_fam_id": 0, "cpuid_mod_id": 0, "cpuid_step": 0} if version == 2 else {}
    vectors = {"launch_mit_vector": 3, "current_mit_vector": 7} if version == 5 else {}
    claims = FakeAmdPki(report={"version": version, **cpuid, **vectors}).verify()
    assert claims.snp.version == version
    assert claims.snp.product is SnpProduct.GENOA
    assert claims.snp.current_mit_vector == (7 if version == 5 else None)


@pytest.mark.parametrize("product", [SnpProduct.MILAN, SnpProduct.TURIN])
def test_a_tcb_in_another_products_layout_is_told_before_a_certificate_is_missed(product: SnpProduct) -> None:
    """As tools that decode and rewrite reports have left them."""
    world = FakeAmdPki(product=product)
    raw = bytearray(world.raw)
    raw[0x180 + (3 if product is SnpProduct.MILAN else 6)] = 24
    with pytest.raises(EvidenceMalformed, match=f"must be zero for {product.value}") as caught:
        verify_snp(
            SnpReport.parse(bytes(raw)), EndorsementSet(), anchors=world.anchors, now=NOW, expected_report_data=None
        )
    assert "rewrite" in (caught.value.hint or "")


@pytest.mark.parametrize("name", OFFSETS)
def test_a_bit_flipped_in_a_signed_field_is_refused(name: str) -> None:
    world = FakeAmdPki(report={"version": 5, "launch_mit_vector": 3, "current_mit_vector": 7})
    offset, size = OFFSETS[name]
    for where in {offset, offset + size - 1}:
        flipped = bytearray(world.raw)
        flipped[where] ^= 0x01
        with pytest.raises(CvmError):
            _verify(bytes(flipped), world)


def _verify(raw: bytes, world: FakeAmdPki) -> None:
    pool = EndorsementSet.from_der(world.certificates, with_evidence=True)
    verify_snp(SnpReport.parse(raw), pool, anchors=world.anchors, now=NOW, expected_report_data=None)
