"""An operator asks why a guest was refused and hears which input differs, proven."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from attest.broker.errors import RequestMalformed
from attest.broker.explain_refusal import explain_refusal
from attest.store.errors import NotFound
from ovmf.firmware import Firmware
from ovmf.kernel_hashes import KernelHashes, cmdline_hash
from ovmf.snp_launch import digest_from_recipe, recipe
from ovmf.vcpu import vcpu_signature
from policy.reference import LaunchRecipe, ReferenceValue, reference_from_bytes, reference_to_bytes
from policy.vocab import LaunchDigest, Platform
from tests.fakes.amd_pki import NOW
from tests.fakes.firmware import image
from tests.fakes.kbs_client import KbsError
from tests.fakes.service_world import OTHER, ServiceWorld

FIRMWARE = Firmware.from_bytes(image())


def launch(initrd: bytes = b"initrd", *, vcpus: int = 2) -> LaunchRecipe:
    hashes = KernelHashes(sha256(b"kernel").digest(), sha256(initrd).digest(), cmdline_hash(b"console=ttyS0"))
    return recipe(FIRMWARE, vcpus=vcpus, vcpu_sig=vcpu_signature("EPYC-v4"), hashes=hashes)


def value(name: str, of: LaunchRecipe) -> bytes:
    return reference_to_bytes(ReferenceValue(name, Platform.EMULATED_SNP, digest_from_recipe(of), NOW, recipe=of))


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    world = ServiceWorld(tmp_path / "service")
    world.add_reference(value("good", launch()))
    return world


def refused(world: ServiceWorld, measurement: bytes) -> int:
    with pytest.raises(KbsError) as caught:
        world.client(measurement=measurement).handshake()
    return int(caught.value.information["decision"])


def test_the_candidate_that_gives_the_digest_shows_what_differs(world: ServiceWorld) -> None:
    number = refused(world, digest_from_recipe(launch(b"other initrd")))
    candidate = reference_from_bytes(value("other", launch(b"other initrd")))
    explained = explain_refusal(world.database, number, [candidate])
    assert explained.reference == "good"
    assert [difference.name for difference in explained.explanation.differences] == ["initrd"]


def test_the_closest_of_several_reference_values_is_compared(world: ServiceWorld) -> None:
    world.add_reference(value("bigger", launch(b"other initrd", vcpus=4)))
    number = refused(world, digest_from_recipe(launch(b"other initrd", vcpus=3)))
    explained = explain_refusal(world.database, number, [])
    assert explained.reference == "bigger"
    assert [difference.name for difference in explained.explanation.differences] == ["vcpus"]


def test_without_a_recipe_that_gives_it_nothing_is_guessed(world: ServiceWorld) -> None:
    explained = explain_refusal(world.database, refused(world, OTHER), [])
    assert explained.explanation.outcome == "unexplained"


def test_what_cannot_be_explained_says_so(world: ServiceWorld) -> None:
    with pytest.raises(NotFound, match="decision 1: not found"):
        explain_refusal(world.database, 1, [])
    with pytest.raises(NotFound, match="none named 'x'"):
        explain_refusal(world.database, refused(world, OTHER), [], reference="x")
    with pytest.raises(KbsError):
        world.client(vmpl=0xFFFFFFFF).handshake()
    with pytest.raises(NotFound, match="was not genuine"):
        explain_refusal(world.database, world.records("decision")[-1]["number"], [])


def test_a_reference_value_whose_digest_does_not_follow_from_its_recipe_is_not_registered(world: ServiceWorld) -> None:
    forged = json.loads(value("forged", launch()))
    forged["launch_digest"] = LaunchDigest(OTHER).hex()
    with pytest.raises(RequestMalformed, match="does not follow from its recipe"):
        world.add_reference(json.dumps(forged).encode())
