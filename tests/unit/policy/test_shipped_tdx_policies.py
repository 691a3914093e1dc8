"""The shipped policies on what real TDs claim: accepted, or refused for exactly the reasons stated here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from attest.cli.policy_file import policy_bytes
from policy.claims import TdxClaims, VerifiedClaims, verifier_seal
from policy.decide import Decision, decide
from policy.document import parse_policy
from policy.reference import ReferenceValue
from policy.vocab import Platform
from tests.fakes.intel_claims import NOW, described

GCP, AZURE = "tdx4-gcp-202512", "tdx4-azure-live"
WITH_TDX = ("strict", "cloud-gcp", "cloud-azure", "demo")


def claims_of(vectors: Path, name: str, day: str) -> TdxClaims:
    """As the manifest describes the quote and, with the collateral of ``day``, its TCB."""
    manifest: dict[str, Any] = json.loads((vectors / "tdx" / "manifest.json").read_text())
    entry = next(item for item in manifest["entries"] if item["file"] == f"quotes/{name}.bin")
    case = next(item for item in entry["cases"] if item["now"].startswith(day) and "tcb_status" in item["expected"])
    number = re.search(r"-ev(\d+)-", case["collateral"]["tcb_info"])
    assert number is not None
    return described(entry["facts"], case["expected"], int(number[1]))


def judged(vectors: Path, policy: str, name: str, day: str) -> Decision:
    """With MRTD and registers registered as seen, as an operator would after looking at an instance of his own."""
    claims = claims_of(vectors, name, day)
    reference = ReferenceValue("seen", Platform.TDX, claims.mrtd, NOW, rtmrs=(*claims.rtmrs[:3], None))
    verified = VerifiedClaims(Platform.TDX, claims, verifier_seal())
    return decide(verified, parse_policy(policy_bytes(policy)), (reference,), now=NOW)


ZERO = {"tdx.rtmr0", "tdx.rtmr1", "tdx.rtmr2"}
OLD = {"tdx.tcb.status", "tdx.tcb.advisories"}
NUMBER = "tdx.tcb.evaluation-number"
CASES: list[tuple[str, str, str, set[str]]] = [
    ("strict", GCP, "2026-07", set()),
    ("cloud-gcp", GCP, "2026-07", set()),
    ("cloud-gcp", "tdx4-gcp-nonce", "2026-07", set()),
    ("cloud-azure", AZURE, "2026-06", set()),
    ("cloud-azure", "tdx4-azure-90c06f", "2026-06", set()),
    ("strict", AZURE, "2026-06", set()),  # its zero registers were registered as seen: they say nothing, and are not lies
    ("cloud-azure", GCP, "2026-07", ZERO),
    ("cloud-gcp", GCP, "2026-06", OLD),  # the same machine by the early evaluation number 21
    ("cloud-gcp", "tdx4-gcp-cos113", "2025-10", {NUMBER}),  # UpToDate by collateral of 2025
    ("cloud-gcp", "tdx4-gcp-cos113", "2026-07", OLD),
    ("cloud-azure", "tdx4-azure-vtpm", "2026-07", OLD),  # SEPT_VE_DISABLE clear: the paravisor's business
    ("strict", "tdx4-azure-vtpm", "2026-07", {*OLD, "tdx.attributes.sept-ve-disable"}),
    ("strict", "tdx4-debug-td", "2023-06", {NUMBER, "tdx.attributes.debug"}),  # UpToDate in its time
    ("strict", "tdx4-dstack-64gib", "2026-06", {"tdx.rtmr3"}),  # dstack extends RTMR3 at run time
    ("cloud-gcp", "tdx4-dstack-64gib", "2026-06", {"tdx.platform.cached-keys", "tdx.rtmr3"}),
    ("strict", "tdx5-gotdxguest", "2026-06", set()),
    ("strict", "tdx5-alibaba-servicetd", "2026-06", {*OLD, "tdx.mrservicetd"}),
    ("strict", "tdx5-module-update", "2026-06", OLD),
    ("cloud-azure", "tdx5-module-update", "2026-06", set()),  # days of grace: the module under it was updated
    ("strict", "tdx4-trustee-00a06d08", "2025-11", {"tdx.tcb.status", NUMBER, "tdx.mrconfigid"}),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "name", "day", "expected"), CASES)
def test_real_tds_are_judged_for_exactly_these_reasons(
    vectors: Path, policy: str, name: str, day: str, expected: set[str]
) -> None:
    decision = judged(vectors, policy, name, day)
    assert {check.id for check in decision.failed} == expected
    assert decision.affirming is not bool(expected)


def test_an_accepted_relaunch_is_counted_down(vectors: Path) -> None:
    (warning,) = judged(vectors, "cloud-azure", "tdx5-module-update", "2026-06").warnings
    assert "TDRelaunchAdvised, behind since 2026-06-24, 7 days of grace left" in warning


@pytest.mark.parametrize("name", WITH_TDX)
def test_every_shipped_policy_refuses_debug_profiling_migration_and_service_tds(name: str) -> None:
    rules = parse_policy(policy_bytes(name)).tdx
    assert rules is not None
    assert [rules.bits[key] for key in ("debug", "migratable", "servtd_ext", "tpa", "perfmon")] == [False] * 5
    assert not rules.untrusted
    assert not rules.undefined_attributes
    assert rules.mrservicetd == rules.mrsignerseam == (bytes(48),)
    assert rules.tcb.revocation == "good"
    assert all(rule is not None for rule in rules.rtmrs)


@pytest.mark.parametrize("name", WITH_TDX)
def test_without_a_registered_value_no_shipped_policy_accepts_a_td(vectors: Path, name: str) -> None:
    claims = VerifiedClaims(Platform.TDX, claims_of(vectors, GCP, "2026-07"), verifier_seal())
    decision = decide(claims, parse_policy(policy_bytes(name)), (), now=NOW)
    assert "measurement" in {check.id for check in decision.failed}
