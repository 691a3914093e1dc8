"""What AMD really sends: certificates, chains and lists of real machines, served by our service and verified."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from attest.collateral.check import check_answer
from attest.collateral.errors import CollateralRefused
from attest.collateral.supply import Supplier
from attest.collateral.wanted import Family, Kind, Wanted, wanted_from_name, wanted_vcek
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.pool import EndorsementSet
from attest.evidence.amd_certificate import AmdCertificate, Role
from attest.evidence.snp_report import SnpReport
from attest.verifier.snp import verify_snp
from policy.vocab import SnpProduct
from tests.fakes.kds import FakeKds, Reply

AMD = TrustAnchors.amd()
NONE = EndorsementSet()
THEN = datetime(2026, 9, 1, tzinfo=UTC)


def leaf_wanted(leaf: AmdCertificate) -> Wanted:
    assert leaf.amd is not None
    assert leaf.amd.hwid is not None
    return wanted_vcek(leaf.product, leaf.amd.hwid, leaf.amd.tcb.to_bytes())


def test_every_real_vcek_is_accepted_under_its_own_name_and_no_other(vectors: Path) -> None:
    leaves = []
    for path in sorted((vectors / "snp" / "certs").glob("*_vcek_*.der")):
        leaf = AmdCertificate.parse(path.read_bytes())
        if leaf.role is Role.VCEK and "badchain" not in path.name:
            leaves.append(leaf)
    assert len(leaves) > 30
    for leaf, other in zip(leaves, [*leaves[1:], leaves[0]], strict=True):
        wanted = leaf_wanted(leaf)
        assert wanted_from_name(wanted.name) == wanted
        assert check_answer(wanted, leaf.der, AMD, NONE).ders == (leaf.der,)
        if leaf_wanted(other) != wanted:
            with pytest.raises(CollateralRefused, match=r"is (for|a)"):
                check_answer(wanted, other.der, AMD, NONE)


def test_a_real_vcek_whose_chain_does_not_hold_is_refused(vectors: Path) -> None:
    for path in (vectors / "snp" / "certs").glob("*_badchain.der"):
        leaf = AmdCertificate.parse(path.read_bytes())
        with pytest.raises(CollateralRefused, match="does not verify"):
            check_answer(leaf_wanted(leaf), leaf.der, AMD, NONE)


@pytest.mark.parametrize(
    ("name", "product", "family"),
    [
        ("milan_vcek_cert_chain.pem", SnpProduct.MILAN, Family.VCEK),
        ("milan_vlek_cert_chain.pem", SnpProduct.MILAN, Family.VLEK),
        ("turin_vcek_cert_chain.pem", SnpProduct.TURIN, Family.VCEK),
    ],
)
def test_real_chains_are_accepted_for_their_kind_of_key_only(
    vectors: Path, name: str, product: SnpProduct, family: Family
) -> None:
    body = (vectors / "snp" / "chains" / name).read_bytes()
    assert len(check_answer(Wanted(Kind.CHAIN, product, family), body, AMD, NONE).certificates) == 2
    other = Family.VLEK if family is Family.VCEK else Family.VCEK
    for wrong in (Wanted(Kind.CHAIN, product, other), Wanted(Kind.CHAIN, SnpProduct.GENOA, family)):
        with pytest.raises(CollateralRefused):
            check_answer(wrong, body, AMD, NONE)


def test_real_lists_are_accepted_for_their_product_only(vectors: Path) -> None:
    for path in sorted((vectors / "snp" / "crls").glob("*.der")):
        product = SnpProduct(path.name.partition("_")[0].capitalize())
        assert check_answer(Wanted(Kind.CRL, product), path.read_bytes(), AMD, NONE).crl is not None
        for other in set(SnpProduct) - {product}:
            with pytest.raises(CollateralRefused):
                check_answer(Wanted(Kind.CRL, other), path.read_bytes(), AMD, NONE)


def test_a_real_report_alone_becomes_claims_with_what_is_fetched(vectors: Path, kds: FakeKds, tmp_path: Path) -> None:
    snp = vectors / "snp"
    report = SnpReport.parse((snp / "reports" / "milan_v3_vcek_05b7438a.bin").read_bytes())
    kds.next(
        Reply(body=(snp / "certs" / "milan_vcek_b67b09bf.der").read_bytes()),
        Reply(body=(snp / "crls" / "milan_2026-08.der").read_bytes()),
    )
    from attest.collateral.published import published_authorities

    have = published_authorities()
    supplied = Supplier(kds.source(tmp_path), AMD, THEN, kds.time.budget()).supply(report, have)
    assert supplied.problems == ()
    assert [path.partition("?")[0].rsplit("/", 1)[1][:8] for path in kds.asked] == [report.chip_id.hex()[:8], "crl"]
    claims = verify_snp(report, have + supplied.endorsements, anchors=AMD, now=THEN, expected_report_data=None)
    assert (claims.snp.root, claims.snp.revocation) == ("amd", "good")
