"""Rules for single claims, each switched on by one line of the strict policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from policy.document import PolicyInvalid
from policy.snp import GuestPolicy, PlatformInfo, SigningKey, TcbVersion
from policy.vocab import SnpProduct
from tests.fakes.claims import TCB
from tests.unit.policy.test_checks import FIRMWARE, failed, policy

AGENT = b"\x01" * 32
MIGRATES = {"policy": GuestPolicy(0x70000), "report_id_ma": AGENT}

OPTIONS: list[tuple[str, tuple[tuple[str, str], ...], dict[str, Any], dict[str, Any]]] = [
    ("snp.family-id", (('family_ids = "any"', f'family_ids = ["{"02" * 16}"]'),), {}, {"family_id": b"\x02" * 16}),
    ("snp.image-id", (('image_ids = "any"', f'image_ids = ["{"03" * 16}"]'),), {}, {"image_id": b"\x03" * 16}),
    ("snp.report-id", (('report_ids = "any"', f'report_ids = ["{"07" * 32}"]'),), {}, {"report_id": b"\x07" * 32}),
    ("snp.report-data", (('report_data = "ignore"', f'report_data = "{"0a" * 64}"'),), {}, {"report_data": b"\x0a" * 64}),
    ("snp.migration-agent", (('migrate_ma = "forbid"', 'migrate_ma = "allow"'),), MIGRATES, {"policy": GuestPolicy(0x70000)}),
    ("snp.migration-agent",
     (('migrate_ma = "forbid"', 'migrate_ma = "allow"'), ("migration_agents = []", f'migration_agents = ["{AGENT.hex()}"]')),
     MIGRATES | {"report_id_ma": b"\x02" * 32}, MIGRATES),
    ("snp.migration-agent", (('migrate_ma = "forbid"', 'migrate_ma = "allow"'), ("migration_agents = []", 'migration_agents = "any"')),
     {"report_id_ma": AGENT}, MIGRATES),
    ("snp.platform.tsme", (('tsme = "ignore"', 'tsme = "require"'),), {}, {"platform_info": PlatformInfo(0x27)}),
    ("snp.platform.tsme", (('tsme = "ignore"', 'tsme = "forbid"'),), {"platform_info": PlatformInfo(0x27)}, {}),
    ("snp.platform.rapl-dis", (('platform_rapl_dis = "ignore"', 'platform_rapl_dis = "require"'),), {},
     {"platform_info": PlatformInfo(0x2D)}),
    ("snp.platform.ciphertext-hiding", (('platform_ciphertext_hiding = "ignore"', 'platform_ciphertext_hiding = "require"'),),
     {}, {"platform_info": PlatformInfo(0x35)}),
    ("snp.platform.iommu-write-safe", (('iommu_write_safe = "ignore"', 'iommu_write_safe = "require"'),), {},
     {"platform_info": PlatformInfo(0x65)}),
    ("snp.platform.tio", (('tio = "forbid"', 'tio = "require"'),), {}, {"platform_info": PlatformInfo(0xA5)}),
    ("snp.cpuid", (('cpuids = "any"', 'cpuids = ["25/0x10-0x1f/1"]'),), {"cpuid_step": 2}, {}),
    ("snp.cpuid", (("denied_cpuids = []", 'denied_cpuids = ["*/17/2-3"]'),), {"cpuid_step": 2}, {"cpuid_step": 1}),
    ("snp.mitigations.current", (('current_mitigations = "any"', 'current_mitigations = "0x5"'),),
     {"current_mit_vector": 4}, {"current_mit_vector": 0xF}),
    ("snp.mitigations.current", (('current_mitigations = "any"', 'current_mitigations = "0x5"'),), {}, {"current_mit_vector": 5}),
    ("snp.mitigations.launch", (('launch_mitigations = "any"', 'launch_mitigations = "0x1"'),),
     {"launch_mit_vector": 2}, {"launch_mit_vector": 3}),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "changes", "bad", "good"), OPTIONS)
def test_a_rule_refuses_what_it_names_and_nothing_else(
    rule: str, changes: tuple[tuple[str, str], ...], bad: dict[str, Any], good: dict[str, Any]
) -> None:
    document = policy(*changes)
    assert failed(document, **bad) == [rule]
    assert failed(document, **good) == []


def firmware(major: int, minor: int, build: int) -> dict[str, int]:
    names = [f"{which}_{part}" for which in ("current", "committed") for part in ("major", "minor", "build")]
    return dict(zip(names, (major, minor, build) * 2, strict=True))


@pytest.mark.parametrize("version", [(1, 55, 38), (1, 55, 39), (1, 58, 0), (2, 0, 0)])
def test_a_firmware_version_is_compared_as_a_whole(version: tuple[int, int, int]) -> None:
    assert failed(**firmware(*version)) == []


@pytest.mark.parametrize("version", [(1, 55, 37), (1, 54, 99), (0, 99, 99)])
def test_older_firmware_is_refused_even_where_a_part_of_its_version_is_higher(version: tuple[int, int, int]) -> None:
    assert failed(**firmware(*version)) == FIRMWARE[:2]


def test_current_and_committed_firmware_have_floors_of_their_own() -> None:
    loose = ('provisional_firmware = "forbid"', 'provisional_firmware = "allow"')
    committed_only = firmware(1, 55, 40) | {"committed_build": 37}
    assert failed(policy(loose), **committed_only) == ["snp.firmware.committed-version"]
    assert failed(policy(loose, ('committed = "1.55.38"', 'committed = "any"')), **committed_only) == []


@pytest.mark.parametrize("which", ["reported", "committed", "current", "launch"])
def test_each_tcb_version_has_a_floor_of_its_own(which: str) -> None:
    low = replace(TCB, microcode=71)
    everything_low = {f"{name}_tcb": low for name in ("reported", "committed", "current", "launch")}
    rest = ", ".join(f'"{name}"' for name in ("reported", "committed", "current", "launch") if name != which)
    document = policy(("models = [16,", "steppings = [9]\nmodels = [16,"), ("[[snp.minimum_tcb]]\nproduct = \"Turin\"", (
        f'[[snp.minimum_tcb]]\nproduct = "Genoa"\napplies_to = ["{which}"]\nbootloader = 9\ntee = 0\nsnp = 23\nmicrocode = 72\n'
        f'reason = ""\n\n[[snp.minimum_tcb]]\nproduct = "Genoa"\napplies_to = [{rest}]\nbootloader = 0\ntee = 0\nsnp = 0\n'
        'microcode = 0\nreason = ""\n\n[[snp.minimum_tcb]]\nproduct = "Turin"'
    )))  # fmt: skip
    assert failed(document, **everything_low) == [f"snp.tcb.{which}"]
    assert failed(document) == []


def test_a_floor_counts_only_for_the_steppings_it_names() -> None:
    strict_for_step_2 = policy(("[[snp.minimum_tcb]]\nproduct = \"Turin\"", (
        '[[snp.minimum_tcb]]\nproduct = "Genoa"\nsteppings = [2]\napplies_to = ["reported"]\nbootloader = 9\ntee = 0\n'
        'snp = 23\nmicrocode = 200\nreason = ""\n\n[[snp.minimum_tcb]]\nproduct = "Turin"'
    )))  # fmt: skip
    assert failed(strict_for_step_2, cpuid_step=1) == []
    assert failed(strict_for_step_2, cpuid_step=2) == ["snp.tcb.reported"]


def test_a_tcb_no_floor_applies_to_is_left_out_by_name() -> None:
    document = policy(('applies_to = ["reported", "committed", "current", "launch"]', 'applies_to = ["reported"]'))
    assert failed(document, launch_tcb=TcbVersion(0, 0, 0, 0)) == []


def test_a_report_that_does_not_name_its_cpu_passes_no_list() -> None:
    unnamed = {"version": 2, "cpuid_fam_id": None, "cpuid_mod_id": None, "cpuid_step": None}
    old = ("report_version_min = 3", "report_version_min = 2")
    plain = ("models = [16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31]\n", "")
    assert failed(policy(old, plain), **unnamed) == []
    assert failed(policy(old, plain, ('cpuids = "any"', 'cpuids = ["*/*/*"]')), **unnamed) == ["snp.cpuid"]
    assert failed(policy(old, plain, ("denied_cpuids = []", 'denied_cpuids = ["1/1/1"]')), **unnamed) == ["snp.cpuid"]


@pytest.mark.parametrize(
    ("csp", "accepted"),
    [
        ("CN=cc-us-east-2.amazonaws.com", True),
        ("CN=cc-.evil.amazonaws.com", False),
        ("CN=cc-a.b.amazonaws.com", False),
        ("CN=cc-us-east-2.amazonaws.com.evil.example", False),
        ("CN=cc-us-east-2xamazonaws.com", False),
        ("CN=cc-.amazonaws.com", False),
        ("CN=cc-us\n.amazonaws.com", False),
    ],
)
def test_a_star_in_a_csp_id_is_one_part_of_a_host_name(csp: str, accepted: bool) -> None:
    document = policy(
        ('signing_keys = ["VCEK"] ', 'signing_keys = ["VLEK"] '),
        ("csp_ids = []", 'csp_ids = ["CN=cc-*.amazonaws.com"]'),
    )
    refused = failed(document, signing_key=SigningKey.VLEK, csp_id=csp, chip_id=bytes(64))
    assert refused == ([] if accepted else ["snp.csp-id"])


BAD: list[tuple[str, str, str]] = [
    ('cpuids = "any"', 'cpuids = ["25/17"]', "$.snp.cpuids"),
    ('cpuids = "any"', 'cpuids = ["25/17/x"]', "$.snp.cpuids"),
    ('cpuids = "any"', 'cpuids = ["25/9-3/1"]', "$.snp.cpuids"),
    ('cpuids = "any"', 'cpuids = ["25/256/1"]', "$.snp.cpuids"),
    ("denied_cpuids = []", 'denied_cpuids = "any"', "$.snp.denied_cpuids"),
    ("denied_chip_ids = []", 'denied_chip_ids = "any"', "$.snp.denied_chip_ids"),
    ('family_ids = "any"', 'family_ids = ["00"]', "$.snp.family_ids"),
    ('report_data = "ignore"', 'report_data = "any"', "$.snp.report_data"),
    ("migration_agents = []", f'migration_agents = ["{AGENT.hex()}"]', "$.snp.migration_agents"),
    ('tio = "forbid"', 'tio = "allow"', "$.snp.tio"),
    ('platform_rapl_dis = "ignore"', 'platform_rapl_dis = "forbid"', "$.snp.platform_rapl_dis"),
    ('current = "1.55.38"', 'current = "1.55"', "$.snp.firmware[0].current"),
    ('current = "1.55.38"', 'current = "1.55.256"', "$.snp.firmware[0].current"),
    ('current_mitigations = "any"', 'current_mitigations = "0x0"', "$.snp.firmware[0].current_mitigations"),
    ('current_mitigations = "any"', 'current_mitigations = "11"', "$.snp.firmware[0].current_mitigations"),
    ('product = "Genoa"\ncurrent', 'product = "Milan"\ncurrent', "$.snp.firmware: 0 entries for Genoa"),
    ("csp_ids = []", 'csp_ids = ["*.*"]', "$.snp.csp_ids"),
    ('"reported", "committed"', '"reportd", "committed"', "$.snp.minimum_tcb[0].applies_to"),
    ('applies_to = ["reported", "committed", "current", "launch"]', 'applies_to = ["launch"]', "$.snp.minimum_tcb: no entry"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "problem"), BAD)
def test_a_wrong_value_is_a_problem_with_its_path(old: str, new: str, problem: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        policy((old, new))
    assert any(text.startswith(problem) for text in caught.value.problems), caught.value.problems


def test_a_product_without_firmware_floors_fails_closed() -> None:
    assert set(FIRMWARE) <= set(failed(product=SnpProduct.MILAN))
