"""AMD's published authorities: what is shipped is what it says, and shipping it trusts nobody new."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attest.collateral.published import PRODUCT_FILES, published_authorities
from attest.endorsement.amd_links import verify_authorities
from attest.endorsement.anchors import AMD_AUTHORITIES, TrustAnchors
from attest.endorsement.errors import VerificationFailed
from attest.endorsement.pool import EndorsementSet
from attest.evidence.snp_report import SnpReport
from attest.verifier.snp import verify_snp

FOLDER = Path(__file__).resolve().parents[4] / "attest" / "collateral" / "amd"


@pytest.mark.parametrize("name", PRODUCT_FILES)
def test_each_file_holds_the_certificates_its_comments_name(name: str) -> None:
    text = (FOLDER / name).read_text()
    stated = re.findall(r"^# (\S+), serial (0x[0-9a-f]+), SHA-256 of DER ([0-9a-f]{64})$", text, re.MULTILINE)
    found = [
        (
            str(item.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value),
            hex(item.serial_number),
            hashlib.sha256(item.public_bytes(Encoding.DER)).hexdigest(),
        )
        for item in x509.load_pem_x509_certificates(text.encode())
    ]
    assert found == stated
    assert len(found) == 3


def test_every_shipped_root_is_pinned_and_no_leaf_is_shipped() -> None:
    shipped = published_authorities()
    assert [TrustAnchors.amd().name_of(root) for root in shipped.roots] == ["amd"] * 3
    assert len(shipped.intermediates) == 6
    assert shipped.leaves == ()


def test_a_report_with_only_its_leaf_is_verified_with_the_shipped_authorities(vectors: Path) -> None:
    snp = vectors / "snp"
    report = SnpReport.parse((snp / "reports" / "milan_v3_vcek_05b7438a.bin").read_bytes())
    leaf = EndorsementSet.from_der([(snp / "certs" / "milan_vcek_b67b09bf.der").read_bytes()])
    claims = verify_snp(
        report, leaf + published_authorities(), anchors=TrustAnchors.amd(), now=datetime(2025, 6, 1, tzinfo=UTC),
        expected_report_data=None,
    )  # fmt: skip
    assert claims.snp.root == "amd"


@pytest.mark.parametrize("product", ["milan", "turin"])
def test_a_forged_chain_stays_refused_beside_the_shipped_authorities(vectors: Path, product: str) -> None:
    forged = vectors / "snp" / "forged"
    sent = EndorsementSet.from_der(
        [(forged / f"{product}_{kind}.der").read_bytes() for kind in ("vcek", "ask", "ark")], with_evidence=True
    )
    report = SnpReport.parse((forged / f"{product}_report.bin").read_bytes())
    with pytest.raises(VerificationFailed, match="not AMD's"):
        verify_snp(
            report, sent + published_authorities(), anchors=TrustAnchors.amd(), now=datetime(2026, 11, 23, tzinfo=UTC),
            expected_report_data=None,
        )  # fmt: skip


def test_the_pairs_that_are_not_verified_anew_are_the_shipped_ones_and_verify() -> None:
    shipped = published_authorities()
    pairs = [(item, root) for item in shipped.intermediates for root in shipped.roots if root.product is item.product]
    for intermediate, root in pairs:
        verify_authorities(intermediate, root)
        assert TrustAnchors.amd().name_of(root) == "amd"
    assert {intermediate.sha256 + root.sha256 for intermediate, root in pairs} == AMD_AUTHORITIES
