"""The reference-value file of a TD: MRTD, four RTMRs and the events they are made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from policy.errors import MalformedInput
from policy.measured import MeasuredEvent, replay
from policy.reference import MeasuredInput, ReferenceMalformed, ReferenceValue, reference_from_bytes, reference_to_bytes
from policy.reference_tdx import TdRecipe, registers_of
from policy.vocab import LaunchDigest, Platform

EVENTS = (
    MeasuredEvent(0, 0x8000000B, b"\x01" * 48, "td-hob", "2 GiB"),
    MeasuredEvent(1, 0x80000003, b"\x02" * 48, "application", "kernel"),
    MeasuredEvent(0, 4, b"\x03" * 48, "separator"),
)
UNPREDICTED = ("RTMR2: the boot loader's commands",)
RECIPE = TdRecipe(
    b"\x09" * 32, "single-pass", "tdx", ("initrd-first",), 2 << 30, 2, EVENTS, UNPREDICTED,
    (MeasuredInput("kernel", "vmlinuz", "03" * 32),),
)  # fmt: skip
VALUE = ReferenceValue(
    "td-1", Platform.TDX, LaunchDigest(b"\x07" * 48), datetime(2026, 1, 1, tzinfo=UTC), None, RECIPE,
    registers_of(EVENTS, UNPREDICTED),
)  # fmt: skip


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(reference_to_bytes(VALUE))
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize("platform", [Platform.TDX, Platform.EMULATED_TDX])
def test_a_td_s_reference_value_survives_being_written_and_read(platform: Platform) -> None:
    value = VALUE._replace(platform=platform)
    assert reference_from_bytes(reference_to_bytes(value)) == value


def test_registers_without_a_recipe_are_somebody_s_word_and_survive() -> None:
    bare = VALUE._replace(recipe=None, rtmrs=(b"\x01" * 48, None, None, bytes(48)))
    assert reference_from_bytes(reference_to_bytes(bare)) == bare


def test_a_register_is_the_replay_of_its_events_unless_something_of_it_is_unpredicted() -> None:
    assert registers_of(EVENTS, UNPREDICTED) == (*replay(EVENTS)[:2], None, bytes(48))


@pytest.mark.parametrize("index", range(4))
def test_a_register_that_does_not_follow_from_its_events_is_refused(index: int) -> None:
    with pytest.raises(ReferenceMalformed, match=rf"rtmr\[{index}\]") as refused:
        reference_from_bytes(changed(lambda document: document["rtmr"].__setitem__(index, "ab" * 48)))
    assert refused.value.code == "reference.inconsistent"


@pytest.mark.parametrize("change", [
    lambda d: d.pop("rtmr"), lambda d: d["rtmr"].pop(), lambda d: d["rtmr"].__setitem__(0, "00"),
    lambda d: d["rtmr"].__setitem__(3, None), lambda d: d.pop("events"), lambda d: d["events"].pop(),
    lambda d: d["events"][0].update(register=4), lambda d: d["events"][0].update(register=True),
    lambda d: d["events"][0].update(digest="00"), lambda d: d["events"][0].update(type=-1),
    lambda d: d["events"][0].update(name="\n"), lambda d: d["events"][0].update(detail=5),
    lambda d: d["events"][0].update(extra=5), lambda d: d["events"].append([]), lambda d: d.update(unpredicted=["RTMR4: x"]),
    lambda d: d.update(unpredicted=["something"]), lambda d: d.update(unpredicted=[]), lambda d: d.update(unpredicted={}),
    lambda d: d["recipe"].update(order="three-pass"), lambda d: d["recipe"].update(flavour="snp"),
    lambda d: d["recipe"].update(memory_bytes=0), lambda d: d["recipe"].update(vcpus=0),
    lambda d: d["recipe"].update(layout="x"), lambda d: d["recipe"].update(firmware_sha256="00"),
    lambda d: d["recipe"].update(extra=1), lambda d: d.update(recipe=None), lambda d: d.update(recipe=[]),
    lambda d: d.update(events=d["events"] * 2000), lambda d: d.update(platform="sev-snp"),
])  # fmt: skip
def test_a_wrong_member_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(MalformedInput):
        reference_from_bytes(changed(change))


def test_registers_have_no_place_in_a_file_for_sev_snp() -> None:
    snp = VALUE._replace(platform=Platform.SEV_SNP, recipe=None, rtmrs=())
    document = json.loads(reference_to_bytes(snp))
    assert "rtmr" not in document
    document["rtmr"] = [None] * 4
    with pytest.raises(MalformedInput, match="unknown member 'rtmr'"):
        reference_from_bytes(json.dumps(document).encode())
