"""Each rule of the appraisal has a case in which only that rule fails."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from policy.checks import SNP_CHECKS
from policy.decide import decide
from policy.document import PolicyDocument, parse_policy
from policy.reference import ReferenceValue
from policy.snp import GuestPolicy, KeyInfo, PlatformInfo, SigningKey, TcbVersion
from policy.vocab import LaunchDigest, Platform, SnpProduct
from tests.fakes.claims import GOOD, verified

NOW = datetime(2026, 11, 23, tzinfo=UTC)
STRICT = (Path(__file__).resolve().parents[3] / "policy" / "documents" / "strict.toml").read_text()
REFERENCE = ReferenceValue("web", Platform.SEV_SNP, GOOD.measurement, NOW)


def policy(*changes: tuple[str, str]) -> PolicyDocument:
    """The strict policy with lines replaced."""
    text = STRICT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_policy(text.encode())


def failed(document: PolicyDocument | None = None, references: Any = (REFERENCE,), **changes: Any) -> list[str]:
    decision = decide(verified(**changes), document or policy(), references, now=NOW)
    assert decision.affirming is not bool(decision.failed)
    return [check.id for check in decision.failed]


def test_a_healthy_guest_with_a_registered_digest_is_affirmed_by_the_strict_policy() -> None:
    decision = decide(verified(), policy(), (REFERENCE,), now=NOW)
    assert decision.affirming
    assert len(decision.checks) == len(SNP_CHECKS)
    assert decision.trust_vector["hardware"] == 2
    assert decision.trust_vector["executables"] == 3


TCBS = [f"snp.tcb.{which}" for which in ("reported", "committed", "current", "launch")]
FIRMWARE = [
    "snp.firmware.current-version", "snp.firmware.committed-version", "snp.mitigations.launch", "snp.mitigations.current"
]  # fmt: skip
LOW = TcbVersion(bootloader=10, tee=0, snp=22, microcode=84)
CASES: list[tuple[str, dict[str, Any]]] = [
    ("trust.root", {"root": "test:" + "0" * 64}),
    ("snp.revocation", {"revocation": "not-checked"}),
    ("snp.revocation", {"revocation": "stale"}),
    ("snp.report-version", {"version": 2}),
    ("snp.signing-key", {"signing_key": SigningKey.NONE}),
    ("snp.vmpl", {"vmpl": 1}),
    ("snp.policy.reserved", {"policy": GuestPolicy(0x30000 | 1 << 40)}),
    ("snp.policy.debug", {"policy": GuestPolicy(0xB0000)}),
    ("snp.policy.migrate-ma", {"policy": GuestPolicy(0x70000)}),
    ("snp.policy.cxl-allow", {"policy": GuestPolicy(0x230000)}),
    ("snp.platform.alias-check", {"platform_info": PlatformInfo(0x05)}),
    ("snp.tcb.reported", {"reported_tcb": LOW}),
    ("snp.tcb.launch", {"launch_tcb": LOW}),
    ("snp.migration-agent", {"report_id_ma": b"\x01" * 32}),
    ("snp.migration-agent", {"report_id_ma": bytes(32)}),
    ("snp.platform.tio", {"platform_info": PlatformInfo(0xA5)}),
    ("snp.tcb.order", {"reported_tcb": TcbVersion(11, 0, 24, 84)}),
    ("snp.firmware.committed", {"committed_build": 39}),
    ("snp.firmware.committed", {"current_minor": 58, "current_build": 0}),
    ("snp.firmware.committed", {"current_tcb": TcbVersion(10, 0, 25, 84)}),
    ("measurement", {"measurement": LaunchDigest(b"\x12" * 48)}),
]


@pytest.mark.parametrize(("rule", "change"), CASES)
def test_one_wrong_claim_fails_exactly_its_own_rule(rule: str, change: dict[str, Any]) -> None:
    assert failed(**change) == [rule]


def test_a_product_that_is_not_listed_is_refused_and_has_no_floor() -> None:
    refused = failed(product=SnpProduct.MILAN, cpuid_mod_id=1)
    assert refused == ["snp.product", *TCBS, *FIRMWARE]


OPTIONS: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = [
    ("snp.policy.smt", 'smt = "allow"', 'smt = "forbid"', {"policy": GuestPolicy(0x30000), "platform_info": PlatformInfo(0x24)},
     {"policy": GuestPolicy(0x20000), "platform_info": PlatformInfo(0x24)}),
    ("snp.platform.smt", 'smt = "allow"', 'smt = "forbid"', {"policy": GuestPolicy(0x20000)},
     {"policy": GuestPolicy(0x20000), "platform_info": PlatformInfo(0x24)}),
    ("snp.policy.single-socket", 'single_socket = "ignore"', 'single_socket = "require"', {}, {"policy": GuestPolicy(0x130000)}),
    ("snp.policy.mem-aes-256-xts", 'mem_aes_256_xts = "ignore"', 'mem_aes_256_xts = "require"', {},
     {"policy": GuestPolicy(0x430000)}),
    ("snp.policy.rapl-dis", '\nrapl_dis = "ignore"', '\nrapl_dis = "require"', {}, {"policy": GuestPolicy(0x830000)}),
    ("snp.policy.ciphertext-hiding", '\nciphertext_hiding = "ignore"', '\nciphertext_hiding = "require"', {},
     {"policy": GuestPolicy(0x1030000)}),
    ("snp.policy.page-swap-disable", 'page_swap_disable = "ignore"', 'page_swap_disable = "require"', {},
     {"policy": GuestPolicy(0x2030000)}),
    ("snp.policy.abi", 'abi_min = "0.0"', 'abi_min = "1.51"', {"policy": GuestPolicy(0x30132)}, {"policy": GuestPolicy(0x30133)}),
    ("snp.platform.ecc", 'ecc = "ignore"', 'ecc = "require"', {"platform_info": PlatformInfo(0x21)}, {}),
    ("snp.platform.reserved", 'unknown_platform_bits = "ignore"', 'unknown_platform_bits = "forbid"',
     {"platform_info": PlatformInfo(0x125)}, {}),
    ("snp.guest-svn", "guest_svn_min = 0", "guest_svn_min = 7", {"guest_svn": 6}, {"guest_svn": 7}),
    ("snp.host-data", 'host_data = "ignore"', f'host_data = "{"ab" * 32}"', {}, {"host_data": b"\xab" * 32}),
    ("snp.id-key-digest", 'id_key_digests = "any"', f'id_key_digests = ["{"cd" * 48}"]', {}, {"id_key_digest": b"\xcd" * 48}),
    ("snp.author-key-digest", 'author_key_digests = "any"', f'author_key_digests = ["{"ef" * 48}"]',
     {"author_key_digest": b"\xef" * 48}, {"author_key_digest": b"\xef" * 48, "key_info": KeyInfo(1)}),
    ("snp.chip-id", 'chip_ids = "any"\ndenied', f'chip_ids = ["{"24" * 64}"]\ndenied', {}, {"chip_id": b"\x24" * 64}),
    ("snp.chip-id", "denied_chip_ids = []", f'denied_chip_ids = ["{"22" * 64}"]', {}, {"chip_id": b"\x24" * 64}),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "old", "new", "bad", "good"), OPTIONS)
def test_an_optional_rule_refuses_what_it_names_and_nothing_else(
    rule: str, old: str, new: str, bad: dict[str, Any], good: dict[str, Any]
) -> None:
    document = policy((old, new))
    assert failed(document, **bad) == [rule]
    assert failed(document, **good) == []


def test_a_vlek_is_accepted_only_from_a_listed_cloud() -> None:
    aws = {"signing_key": SigningKey.VLEK, "csp_id": "CN=cc-us-east-2.amazonaws.com", "chip_id": bytes(64)}
    keys = ('signing_keys = ["VCEK"] ', 'signing_keys = ["VCEK", "VLEK"] ')
    assert failed(policy(keys), **aws) == ["snp.csp-id"]
    assert failed(policy(keys, ("csp_ids = []", 'csp_ids = ["CN=cc-us-east-2.amazonaws.com"]')), **aws) == []


def test_microcode_floors_are_counted_per_silicon() -> None:
    bergamo = TcbVersion(bootloader=10, tee=0, snp=27, microcode=27)
    same = {"reported_tcb": bergamo, "launch_tcb": bergamo, "current_tcb": bergamo, "committed_tcb": bergamo}
    assert failed(cpuid_mod_id=0xA0, **same) == []
    assert failed(cpuid_mod_id=0x11, **same) == TCBS


def test_a_chip_without_a_written_floor_is_refused() -> None:
    assert failed(cpuid_mod_id=0x99) == TCBS


def test_no_reference_values_means_no_release() -> None:
    assert failed(references=()) == ["measurement"]


def test_an_expired_reference_value_accepts_nothing() -> None:
    assert failed(references=(REFERENCE._replace(expires=NOW),)) == ["measurement"]
    assert failed(references=(REFERENCE._replace(expires=NOW + timedelta(seconds=1)),)) == []


def test_a_reference_value_of_another_platform_accepts_nothing() -> None:
    assert failed(references=(REFERENCE._replace(platform=Platform.EMULATED_SNP),)) == ["measurement"]


def test_a_decision_needs_verified_claims_and_an_aware_clock() -> None:
    with pytest.raises(TypeError, match="VerifiedClaims"):
        decide(GOOD, policy(), (), now=NOW)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="aware"):
        decide(verified(), policy(), (), now=datetime(2026, 1, 1))


def test_verified_claims_cannot_be_made_outside_the_verifier() -> None:
    from policy.claims import VerifiedClaims

    with pytest.raises(TypeError, match="verifier"):
        VerifiedClaims(Platform.SEV_SNP, GOOD, object())


def test_emulated_hardware_is_never_affirmed_as_genuine_hardware() -> None:
    root = "test:" + "ab" * 32
    document = policy(
        ('roots = ["amd", "intel"]', f'roots = ["{root}"]'), ('revocation = "good"', 'revocation = "not-checked"')
    )
    claims = verified(Platform.EMULATED_SNP, root=root, revocation="not-checked")
    decision = decide(claims, document, (REFERENCE._replace(platform=Platform.EMULATED_SNP),), now=NOW)
    assert decision.affirming
    assert decision.emulated
    assert decision.trust_vector["hardware"] == 0


def test_a_chip_whose_host_masks_its_number_is_not_shown_to_be_another_than_a_denied_one() -> None:
    cloud = ('signing_keys = ["VCEK"] ', 'signing_keys = ["VCEK", "VLEK"] '), ("csp_ids = []", 'csp_ids = ["CN=cc"]')
    masked = {"signing_key": SigningKey.VLEK, "csp_id": "CN=cc", "chip_id": bytes(64)}
    assert failed(policy(*cloud), **masked) == []
    denied = policy(*cloud, ("denied_chip_ids = []", f'denied_chip_ids = ["{"22" * 64}"]'))
    assert failed(denied, **masked) == ["snp.chip-id"]
    assert failed(denied, **masked | {"chip_id": b"\x24" * 64}) == []
