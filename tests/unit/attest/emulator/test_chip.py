"""The emulated chip passes the same verifier as a real one, and only where its root is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.emulator.chip import Chip
from attest.emulator.pki import CRL_LIFE, ORGANISATION, make_crl
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.errors import VerificationFailed
from attest.endorsement.pool import EndorsementSet
from attest.evidence.amd_certificate import AmdCertificate, Role
from attest.evidence.cert_table import parse_cert_table
from attest.evidence.chip_port import ReportRequest
from attest.evidence.snp_report import SnpReport
from attest.verifier.snp import verify_snp
from policy.claims import VerifiedClaims
from policy.vocab import LaunchDigest, Platform, SnpProduct
from tests.fakes.guest import DIGEST, LAUNCH, chip, chip_keys

NOW = datetime.now(UTC)
DATA = bytes(range(64))


def anchors() -> TrustAnchors:
    return TrustAnchors.amd().with_test_root(chip_keys().ark.public_bytes(Encoding.DER))


def verify(made: Chip, *, trust: TrustAnchors, data: bytes = DATA, now: datetime = NOW) -> VerifiedClaims:
    report = SnpReport.parse(made.report(ReportRequest(DATA)))
    pool = EndorsementSet.from_der(
        [entry.data for entry in parse_cert_table(made.certificates) if entry.name != "CRL"],
        [entry.data for entry in parse_cert_table(made.certificates) if entry.name == "CRL"],
    )
    return verify_snp(report, pool, anchors=trust, now=now, expected_report_data=data)


def test_a_report_passes_every_step_of_the_verifier_and_is_called_emulated() -> None:
    claims = verify(chip(), trust=anchors())
    assert claims.platform is Platform.EMULATED_SNP
    assert claims.emulated
    assert claims.snp.root == f"test:{chip_keys().root_sha256}"
    assert claims.snp.product is SnpProduct.GENOA
    assert claims.snp.measurement == DIGEST
    assert claims.snp.report_data == DATA
    assert (claims.snp.policy, claims.snp.vmpl) == (0x30000, 0)
    assert (claims.snp.host_data, claims.snp.report_id) == (LAUNCH.host_data, LAUNCH.report_id)
    assert claims.snp.platform_info.alias_check_complete


def test_amds_roots_alone_do_not_trust_it() -> None:
    with pytest.raises(VerificationFailed):
        verify(chip(), trust=TrustAnchors.amd())


def test_another_emulated_chip_is_not_trusted_either() -> None:
    from attest.emulator.pki import make_chip

    other = make_chip(NOW).ark.public_bytes(Encoding.DER)
    with pytest.raises(VerificationFailed):
        verify(chip(), trust=TrustAnchors.test_only(other))


def test_other_report_data_than_expected_fail_the_binding() -> None:
    with pytest.raises(VerificationFailed) as caught:
        verify(chip(), trust=anchors(), data=bytes(64))
    assert caught.value.step == "binding"


def test_another_launch_is_another_measurement() -> None:
    launch = replace(LAUNCH, measurement=LaunchDigest(bytes(48)))
    assert verify(chip(launch), trust=anchors()).snp.measurement == bytes(48)


def test_every_certificate_says_in_its_names_that_it_is_not_amds() -> None:
    keys = chip_keys()
    for certificate in (keys.ark, keys.ask, keys.vcek):
        found = certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
        assert [name.value for name in found] == [ORGANISATION]
        assert "not AMD" in ORGANISATION


def test_the_vcek_names_the_chip_and_the_tcb_of_its_reports() -> None:
    leaf = AmdCertificate.parse(chip_keys().vcek.public_bytes(Encoding.DER))
    report = SnpReport.parse(chip().report(ReportRequest(DATA)))
    assert leaf.role is Role.VCEK
    assert leaf.amd is not None
    assert leaf.amd.hwid == report.chip_id
    assert leaf.amd.tcb.to_bytes() == report.reported_tcb


def test_a_revocation_list_makes_revocation_good_until_it_is_stale() -> None:
    keys = chip_keys()
    crl = make_crl(keys, NOW).public_bytes(Encoding.DER)
    made = Chip(keys, LAUNCH, crl)
    assert verify(made, trust=anchors()).snp.revocation == "good"
    later = NOW + CRL_LIFE + timedelta(days=1)
    assert verify(made, trust=anchors(), now=later).snp.revocation == "stale"


@given(st.binary(min_size=64, max_size=64), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_the_report_repeats_what_was_asked_and_nothing_reserved_is_set(data: bytes, vmpl: int) -> None:
    report = SnpReport.parse(chip().report(ReportRequest(data, vmpl)))
    assert (report.report_data, report.vmpl, report.version) == (data, vmpl, 3)
