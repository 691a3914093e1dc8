"""The shipped policies on real reports of the clouds: accepted, or refused for exactly the reasons stated here."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from attest.cli.policy_file import SHIPPED, policy_bytes
from attest.cli.policy_words import policy_rules, policy_warnings
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.pool import EndorsementSet
from attest.evidence.recognise import parse_snp_evidence
from attest.verifier.snp import verify_snp
from policy.check import IGNORED
from policy.claims import VerifiedClaims, verifier_seal
from policy.decide import Decision, decide
from policy.document import parse_policy
from policy.reference import ReferenceValue
from policy.vocab import Platform
from tests.unit.attest.verifier.vector_files import clock_for, listed, read

AWS = ("extended/aws_milan_v5_13211b50.bin", "extended/aws_milan_v5_8b620532.bin")
GCP = ("extended/gcp_milan_v5_1789dec7.bin", "extended/gcp_milan_v5_65ec732e.bin")
AZURE = (
    "hcl/azure_genoa_v3_a9e9196c.bin", "hcl/azure_milan_v3_05b7438a.bin", "hcl/azure_milan_v3_2cf09fff.bin",
    "hcl/azure_milan_v3_ec43daae.bin",
)  # fmt: skip
TCBS = {f"snp.tcb.{which}" for which in ("reported", "committed", "current", "launch")}
OLD_FIRMWARE = {"snp.firmware.current-version", "snp.firmware.committed-version"}


def claims_of(vectors: Path, name: str) -> VerifiedClaims:
    """Verified under AMD's roots. The CRLs of the vectors are of other days; a current one is taken as checked."""
    (data,) = read(vectors, [name])
    evidence = parse_snp_evidence(data)
    files = [entry["file"] for entry in listed(vectors, "vcek", "vlek", "ark", "ask", "asvk")]
    pool = EndorsementSet.from_der([*evidence.certificates, *read(vectors, files)])
    leaves = [leaf.der for leaf in pool.candidates(evidence.report, None)]
    claims = verify_snp(
        evidence.report, pool, anchors=TrustAnchors.amd(), now=clock_for(leaves), expected_report_data=None
    )
    return VerifiedClaims(claims.platform, claims.snp._replace(revocation="good"), verifier_seal())


def judged(vectors: Path, policy: str, name: str) -> Decision:
    """With the report's own launch digest registered, as an operator would after computing it."""
    claims = claims_of(vectors, name)
    now = datetime(2026, 11, 23, tzinfo=UTC)
    reference = ReferenceValue("seen", Platform.SEV_SNP, claims.snp.measurement, now)
    return decide(claims, parse_policy(policy_bytes(policy)), (reference,), now=now)


def reasons(vectors: Path, policy: str, name: str) -> set[str]:
    return {check.id for check in judged(vectors, policy, name).failed}


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        *(("cloud-aws", name) for name in AWS),
        *(("cloud-gcp", name) for name in GCP),
        *(("cloud-azure", name) for name in AZURE),
    ],
)
def test_real_reports_of_a_cloud_are_accepted_by_its_policy(vectors: Path, policy: str, name: str) -> None:
    decision = judged(vectors, policy, name)
    assert decision.affirming, [(check.id, check.expected, check.actual) for check in decision.failed]


FOREIGN = [
    ("cloud-aws", GCP[0], {"snp.signing-key", "snp.policy.page-swap-disable"}),
    ("cloud-aws", AZURE[1], {"snp.signing-key", "snp.policy.page-swap-disable"}),
    ("cloud-gcp", AWS[0], {"snp.signing-key", "snp.csp-id"}),
    ("cloud-gcp", AZURE[0], set()),  # nothing but the launch digest tells an Azure host from Google's: both sign by VCEK
    ("cloud-azure", GCP[0], {"snp.policy.abi", "snp.guest-svn", "snp.id-key-digest"}),
    ("cloud-azure", AWS[1], {"snp.signing-key", "snp.csp-id", "snp.policy.abi", "snp.guest-svn", "snp.id-key-digest"}),
    ("strict", AWS[0], {"snp.product", "snp.signing-key", "snp.csp-id", *TCBS, *OLD_FIRMWARE,
                        "snp.mitigations.launch", "snp.mitigations.current"}),
    ("strict", "reports/genoa_v5_vcek_7ea4daeb.bin", set()),
    ("strict", "reports/genoa_v5_vcek_64356573.bin", set()),
    ("strict", "reports/turin_v5_vcek_85da705e.bin", set()),
    ("strict", "reports/turin_v5_vcek_3f44a09b.bin", TCBS),
    ("strict", "reports/genoa_v2_vcek_a95b044f.bin", {"snp.report-version", "snp.platform.alias-check", *TCBS, *OLD_FIRMWARE}),
    # An early EC2 report: from a guest's VMPL 1, without PAGE_SWAP_DISABLE, on firmware before BadRAM and EntrySign.
    ("cloud-aws", "reports/milan_v2_vlek_affb92f9.bin",
     {"snp.report-version", "snp.vmpl", "snp.policy.page-swap-disable", "snp.platform.alias-check", "snp.platform.ecc", *TCBS,
      *OLD_FIRMWARE}),
    # An early Azure report: another microcode was loaded than committed, before BadRAM and EntrySign.
    ("cloud-azure", "hcl/azure_milan_v2_2e63568e.bin",
     {"snp.report-version", "snp.platform.alias-check", "snp.platform.ecc", *TCBS, "snp.firmware.committed", *OLD_FIRMWARE}),
    # Azure containers are no Azure VM: another ID key, an older paravisor number.
    ("cloud-azure", "reports/milan_v3_vcek_b9eae32b.bin", {"snp.guest-svn", "snp.id-key-digest"}),
    # Google's Milan before the firmware against EntrySign was committed: only REPORTED_TCB still says so.
    ("cloud-gcp", "reports/milan_v3_vcek_a20e02a2.bin", {"snp.tcb.reported"}),
    ("cloud-gcp", "reports/milan_v2_vcek_377e6241.bin",
     {"snp.report-version", "snp.policy.debug", "snp.platform.alias-check", "snp.platform.ecc", *TCBS, *OLD_FIRMWARE}),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "name", "expected"), FOREIGN)
def test_other_real_reports_are_refused_for_exactly_these_reasons(
    vectors: Path, policy: str, name: str, expected: set[str]
) -> None:
    assert reasons(vectors, policy, name) == expected


@pytest.mark.parametrize("policy", ["strict", "cloud-aws", "cloud-gcp", "cloud-azure"])
def test_without_a_registered_digest_no_shipped_policy_accepts_anything(vectors: Path, policy: str) -> None:
    name = {"cloud-aws": AWS[0], "cloud-gcp": GCP[0], "cloud-azure": AZURE[0]}.get(
        policy, "reports/genoa_v5_vcek_64356573.bin"
    )
    claims = claims_of(vectors, name)
    decision = decide(claims, parse_policy(policy_bytes(policy)), (), now=datetime(2026, 11, 23, tzinfo=UTC))
    assert [check.id for check in decision.failed] == ["measurement"]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_policy_is_valid_and_explains_every_rule(name: str) -> None:
    document = parse_policy(policy_bytes(name))
    assert document.name == name
    assert len(policy_rules(document)) > 40
    assert document.emulated_allowed is (name == "demo")
    assert any("no chip vendor's" in text for text in policy_warnings(document)) is (name == "demo")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_policy_refuses_debug_and_migration_and_demands_the_alias_check(name: str) -> None:
    rules = parse_policy(policy_bytes(name)).snp
    assert not rules.permissions["debug"]
    assert not rules.permissions["migrate_ma"]
    assert rules.migration_agents == ()
    assert rules.platform["alias_check"] is True
    assert not rules.provisional_firmware


@pytest.mark.parametrize("name", SHIPPED)
def test_every_minimum_of_a_shipped_policy_names_its_reason(name: str) -> None:
    rules = parse_policy(policy_bytes(name)).snp
    assert all(entry.reason for entry in rules.minimum_tcb)
    assert all(entry.reason for entry in rules.firmware if entry.current or entry.committed)


def test_a_decision_shows_what_was_left_out_with_its_reason(vectors: Path) -> None:
    for check in judged(vectors, "cloud-gcp", GCP[0]).checks:
        assert check.clause
        if check.outcome == IGNORED:
            assert check.expected == "not compared"
