"""The search finds every single and every double change, and stays within its bounds."""

from __future__ import annotations

import time
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovmf.alternatives import MOST_BOOTS, boots
from ovmf.errors import OvmfError
from ovmf.explain import EXPLAINED, UNEXPLAINED, explain
from ovmf.kernel_hashes import NO_INITRD, KernelHashes, cmdline_hash
from ovmf.snp_launch import Firmware, digest_from_recipe, recipe
from ovmf.vmm import VMMS
from ovmf.warm import DigestCache
from policy.reference import LaunchRecipe
from policy.vocab import LaunchDigest
from tests.fakes import firmware as fake

HASHES = KernelHashes(b"K" * 32, b"I" * 32, b"C" * 32)
OTHER = Firmware.from_bytes(fake.image(size=16384))
EXPECTED = recipe(Firmware.from_bytes(fake.image()), vcpus=4, vcpu_sig=0x800F12, hashes=HASHES)
SUSPECTS = (
    EXPECTED._replace(kernel_sha256=b"k" * 32),
    EXPECTED._replace(initrd_sha256=b"i" * 32),
    EXPECTED._replace(cmdline_sha256=b"c" * 32),
    recipe(OTHER, vcpus=4, vcpu_sig=0x800F12, hashes=HASHES),
)
CHANGES: dict[str, dict[str, Any]] = {
    "vcpus": {"vcpus": 48},
    "vcpu_sig": {"vcpu_sig": 0xA10F10},
    "guest_features": {"guest_features": 0x21},
    "vmm": {"vmm": "qemu-zero-fpu"},
    "kernel": {"kernel_sha256": b"k" * 32},
    "initrd": {"initrd_sha256": NO_INITRD},
    "cmdline": {"cmdline_sha256": cmdline_hash(b"")},
    "firmware": SUSPECTS[3]._asdict() | {"inputs": ()},
}


def differences(launched: LaunchRecipe, *candidates: LaunchRecipe) -> list[str]:
    explanation = explain(digest_from_recipe(launched), EXPECTED, candidates)
    assert explanation.outcome == EXPLAINED
    return sorted(difference.name for difference in explanation.differences)


@pytest.mark.parametrize("name", CHANGES)
def test_every_single_change_is_found(name: str) -> None:
    assert differences(EXPECTED._replace(**CHANGES[name]), *SUSPECTS) == [name]


@pytest.mark.parametrize(("one", "two"), [*combinations(CHANGES, 2)], ids=str)
def test_every_double_change_is_found(one: str, two: str) -> None:
    first = CHANGES["firmware"] if "firmware" in (one, two) else {}
    launched = EXPECTED._replace(**first)
    for name in (one, two):
        if name != "firmware":
            launched = launched._replace(**CHANGES[name])
    assert differences(launched, *SUSPECTS) == sorted((one, two))


@pytest.mark.parametrize("change", [{"vcpus": 3}, {"guest_features": 0x21}, {"vcpu_sig": 0xA00F11}, {"vmm": "krun"}])
def test_boot_hashes_off_and_another_change_are_found(change: dict[str, Any]) -> None:
    launched = EXPECTED._replace(kernel_sha256=None, initrd_sha256=None, cmdline_sha256=None, **change)
    assert differences(launched) == sorted(("kernel_hashes", *change))


def test_odd_features_with_a_boot_change_or_another_cpu_are_found() -> None:
    assert differences(EXPECTED._replace(guest_features=0x4201, initrd_sha256=NO_INITRD)) == [
        "guest_features",
        "initrd",
    ]
    assert differences(EXPECTED._replace(guest_features=0x4201, vcpu_sig=0xB00F00)) == ["guest_features", "vcpu_sig"]
    assert differences(EXPECTED._replace(vcpu_sig=0xAA0F01, vcpus=7)) == ["vcpu_sig", "vcpus"]


def test_a_kernel_that_should_not_have_been_measured_is_found() -> None:
    bare = EXPECTED._replace(kernel_sha256=None, initrd_sha256=None, cmdline_sha256=None)
    for launched in (EXPECTED, EXPECTED._replace(initrd_sha256=NO_INITRD), EXPECTED._replace(vcpus=2)):
        explanation = explain(digest_from_recipe(launched), bare, [EXPECTED])
        assert explanation.outcome == EXPLAINED
        assert "kernel_hashes" in [difference.name for difference in explanation.differences]


def test_ten_thousand_recipes_take_two_seconds_at_most() -> None:
    candidates = [
        EXPECTED._replace(kernel_sha256=n.to_bytes(32), initrd_sha256=(n + 1).to_bytes(32), vcpus=n % 64 + 1)
        for n in range(10_000)
    ]
    start = time.process_time()
    explanation = explain(LaunchDigest(b"z" * 48), EXPECTED, candidates)
    spent = time.process_time() - start
    assert explanation.outcome == UNEXPLAINED
    assert explanation.tried > 10_000
    assert spent < 6  # two on an idle core; bench/explain.py has the figure
    assert digest_from_recipe(candidates[9_999]) == DigestCache().digest(candidates[9_999])


def test_boots_come_nearest_first_and_never_without_end() -> None:
    candidates = [EXPECTED._replace(kernel_sha256=n.to_bytes(32), initrd_sha256=n.to_bytes(32)) for n in range(300)]
    found = list(boots((EXPECTED, *candidates)))
    assert len(found) == MOST_BOOTS
    fields = ("kernel_sha256", "initrd_sha256", "cmdline_sha256")
    unlike = [sum(getattr(boot, name) != getattr(EXPECTED, name) for name in fields) for boot in found[:500]]
    assert [n for n in unlike if n < 3] == sorted(n for n in unlike if n < 3)


recipes = st.builds(
    lambda firmware, vcpus, sig, features, vmm, kernel: recipe(
        Firmware.from_bytes(fake.image(size=firmware)),
        vcpus=vcpus,
        vcpu_sig=sig,
        guest_features=features,
        hashes=KernelHashes(kernel, NO_INITRD, b"c" * 32) if kernel else None,
        vmm=vmm,
    ),
    st.sampled_from([8192, 12288]),
    st.integers(1, 20),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.sampled_from(sorted(VMMS)),
    st.sampled_from([b"", b"k" * 32, b"l" * 32]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(recipes, min_size=1, max_size=6))
def test_warm_digests_are_the_cold_ones(several: list[LaunchRecipe]) -> None:
    cache = DigestCache()
    for one in (*several, *several):
        assert cache.digest(one) == digest_from_recipe(one)


@pytest.mark.parametrize(
    "change",
    [
        {"firmware_ld": b"x"}, {"sections": ((0, 1, 1),)}, {"vcpus": 0}, {"vcpu_sig": 1 << 32}, {"guest_features": -1},
        {"vmm": "none"}, {"kernel_sha256": None}, {"hash_table_gpa": None}, {"ap_eip": 1 << 32}, {"kernel_sha256": b""},
    ],
)  # fmt: skip
def test_a_wrong_recipe_is_refused_warm_as_cold(change: dict[str, Any]) -> None:
    wrong = EXPECTED._replace(**change)
    with pytest.raises(OvmfError) as cold:
        digest_from_recipe(wrong)
    cache = DigestCache()
    cache.digest(EXPECTED)
    with pytest.raises(type(cold.value)):
        cache.digest(wrong)


def test_a_firmware_is_parsed_once_per_content() -> None:
    cache = DigestCache()
    assert cache.firmware(fake.image()) is cache.firmware(bytes(fake.image()))
    assert cache.firmware(fake.image(size=16384)).ld == OTHER.ld
