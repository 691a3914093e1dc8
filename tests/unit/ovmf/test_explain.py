"""Explanations are proofs: named inputs differ, and the recipe that says so reproduces the digest."""

from __future__ import annotations

from typing import Any

import pytest

from ovmf.errors import FirmwareMalformed
from ovmf.explain import EXPLAINED, SAME, UNEXPLAINED, Explanation, explain
from ovmf.kernel_hashes import NO_INITRD, KernelHashes, cmdline_hash
from ovmf.snp_launch import Firmware, digest_from_recipe, recipe
from policy.reference import LaunchRecipe, MeasuredInput
from tests.fakes import firmware as fake

HASHES = KernelHashes(b"K" * 32, b"I" * 32, b"C" * 32)


@pytest.fixture(scope="module")
def expected(small: Firmware) -> LaunchRecipe:
    return recipe(small, vcpus=2, vcpu_sig=0x800F12, hashes=HASHES)


def run(expected: LaunchRecipe, launched: LaunchRecipe, *candidates: LaunchRecipe) -> Explanation:
    reported = digest_from_recipe(launched)
    explanation = explain(reported, expected, candidates)
    if explanation.recipe is not None:
        assert digest_from_recipe(explanation.recipe) == reported
    return explanation


def names(explanation: Explanation) -> list[str]:
    return [difference.name for difference in explanation.differences]


def test_the_expected_digest_is_the_same(expected: LaunchRecipe) -> None:
    explanation = run(expected, expected)
    assert explanation.outcome == SAME
    assert names(explanation) == []
    assert explanation.text() == "the reported digest is the expected one"


def test_another_initrd_is_named_when_its_recipe_is_known(expected: LaunchRecipe) -> None:
    item = MeasuredInput("initrd", "images/other.zst", (b"x" * 32).hex())
    other = expected._replace(initrd_sha256=b"x" * 32, inputs=(item,))
    explanation = run(expected, other, other)
    assert explanation.outcome == EXPLAINED
    assert names(explanation) == ["initrd"]
    assert explanation.differences[0].reported == f"sha256:{item.sha256} (images/other.zst)"
    assert explanation.text() == (
        "same firmware, vCPUs, CPU model, guest features, VMM, kernel, command line; initrd differs"
    )


def test_another_initrd_nobody_knows_is_not_guessed(expected: LaunchRecipe) -> None:
    explanation = run(expected, expected._replace(initrd_sha256=b"x" * 32))
    assert explanation.outcome == UNEXPLAINED
    assert explanation.recipe is None
    assert explanation.same == explanation.differences == ()
    assert "none of" in explanation.text()


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ({"vcpus": 1}, ["vcpus"]),
        ({"vcpus": 300}, ["vcpus"]),
        ({"vcpu_sig": 0xA10F10}, ["vcpu_sig"]),
        ({"vcpu_sig": 0xAA0F01}, ["vcpu_sig"]),
        ({"guest_features": 0x21}, ["guest_features"]),
        ({"guest_features": 0x201}, ["guest_features"]),
        ({"vmm": "qemu-zero-fpu"}, ["vmm"]),
        ({"vmm": "gce-52bit"}, ["vmm"]),
        ({"vcpus": 5, "vcpu_sig": 0xA00F11, "guest_features": 0x21}, ["vcpus", "vcpu_sig", "guest_features"]),
        ({"initrd_sha256": NO_INITRD}, ["initrd"]),
        ({"cmdline_sha256": cmdline_hash(b"")}, ["cmdline"]),
        ({"kernel_sha256": None, "initrd_sha256": None, "cmdline_sha256": None}, ["kernel_hashes"]),
    ],
)
def test_what_happens_by_itself_is_found_without_candidates(
    expected: LaunchRecipe, change: dict[str, Any], differing: list[str]
) -> None:
    explanation = run(expected, expected._replace(**change))
    assert explanation.outcome == EXPLAINED
    assert names(explanation) == differing


def test_inputs_of_several_candidates_are_mixed(expected: LaunchRecipe) -> None:
    launched = expected._replace(initrd_sha256=b"x" * 32, cmdline_sha256=b"y" * 32, vcpus=7)
    explanation = run(
        expected,
        launched,
        expected._replace(initrd_sha256=b"x" * 32, vcpus=64),
        expected._replace(cmdline_sha256=b"y" * 32),
    )
    assert names(explanation) == ["vcpus", "initrd", "cmdline"]
    assert "kernel" in explanation.same


def test_another_firmware_is_named(expected: LaunchRecipe) -> None:
    other = Firmware.from_bytes(fake.image(size=16384))
    launched = recipe(other, vcpus=2, vcpu_sig=0x800F12, hashes=HASHES)
    assert names(run(expected, launched, launched)) == ["firmware"]


def test_a_candidate_that_can_never_start_is_passed_over_but_its_parts_are_mixed(expected: LaunchRecipe) -> None:
    impossible = expected._replace(sections=expected.sections[:-1], initrd_sha256=b"x" * 32)
    launched = expected._replace(initrd_sha256=b"x" * 32)
    assert names(run(expected, launched, impossible)) == ["initrd"]


def test_a_candidate_with_the_same_firmware_name_but_other_contents_is_told_apart(expected: LaunchRecipe) -> None:
    forged = expected._replace(firmware_ld=b"f" * 48)
    explanation = run(expected, forged, forged)
    assert names(explanation) == ["firmware"]
    assert "other pages" in explanation.differences[0].reported
    assert "firmware differs" in explanation.text()


def test_a_malformed_candidate_is_refused(expected: LaunchRecipe) -> None:
    with pytest.raises(FirmwareMalformed):
        run(expected, expected._replace(vcpus=9), expected._replace(firmware_ld=b"f" * 47))


def test_where_the_signature_is_not_measured_nothing_is_said_about_it(expected: LaunchRecipe) -> None:
    reference = expected._replace(vmm="ec2")
    explanation = run(reference, reference._replace(vcpus=4))
    assert names(explanation) == ["vcpus"]
    assert "vcpu_sig" not in explanation.same


def test_a_quick_search_leaves_odd_signatures_and_features_unexplained(expected: LaunchRecipe) -> None:
    reported = digest_from_recipe(expected._replace(vcpu_sig=0xAA0F01))
    assert explain(reported, expected).outcome == EXPLAINED
    assert explain(reported, expected, exhaustive=False).outcome == UNEXPLAINED


def test_many_candidates_stay_within_seconds(expected: LaunchRecipe) -> None:
    candidates = [
        expected._replace(initrd_sha256=bytes([n]) * 32, kernel_sha256=bytes([n + 1]) * 32, vcpus=n + 1)
        for n in range(40)
    ]
    launched = expected._replace(initrd_sha256=b"x" * 32)
    explanation = explain(digest_from_recipe(launched), expected, candidates, exhaustive=False)
    assert explanation.outcome == UNEXPLAINED
    assert explanation.tried < 2_000_000
