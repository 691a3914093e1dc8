"""Expected events beside logged ones."""

from __future__ import annotations

import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.measured import MeasuredEvent, replay
from policy.measured_diff import event_differences, first_differences


def event(name: str, data: str = "", register: int = 2) -> MeasuredEvent:
    return MeasuredEvent(register, 6, hashlib.sha384((data or name).encode()).digest(), name, data)


BOOT = [event("application", register=1), event("load-options", "quiet"), event("initrd", "one"), event("ipl:x")]


def texts(logged: list[MeasuredEvent]) -> list[str]:
    return [f"{d.register}.{d.place} {d.kind} {d.name}" for d in event_differences(BOOT, logged)]


@pytest.mark.parametrize(("logged", "want"), [
    (BOOT, []),
    ([*BOOT[:2], event("initrd", "two"), BOOT[3]], ["2.2 changed initrd"]),
    ([*BOOT[:2], BOOT[3]], ["2.2 missing initrd"]),
    ([*BOOT[:2], event("ipl:y"), *BOOT[2:]], ["2.2 extra ipl:y"]),
    ([BOOT[0], BOOT[2], BOOT[1], BOOT[3]], ["2.1 moved initrd"]),
    ([], ["1.1 missing application", "2.1 missing load-options", "2.2 missing initrd", "2.3 missing ipl:x"]),
    ([event("application", "evil", 1), *BOOT[1:], event("event:0x5")], ["1.1 changed application", "2.4 extra event:0x5"]),
])  # fmt: skip
def test_what_differs_is_named(logged: list[MeasuredEvent], want: list[str]) -> None:
    got = texts(logged)
    if want == ["2.1 moved initrd"]:  # which of the two has moved is a matter of taste
        assert got in (want, ["2.2 moved load-options"])
    else:
        assert got == want


def test_the_words_say_what_was_expected_and_what_was_logged() -> None:
    other = event("initrd", "two")
    [found] = event_differences(BOOT, [*BOOT[:2], other, BOOT[3]])
    want = f"RTMR2 event 2 initrd: expected {BOOT[2].digest.hex()[:12]}… (one), got {other.digest.hex()[:12]}… (two)"
    assert found.text() == want
    [missing] = event_differences(BOOT, BOOT[:-1])
    assert missing.text().startswith("RTMR2 event 3 ipl:x: missing, expected ")
    [extra] = event_differences(BOOT[:-1], BOOT)
    assert extra.text().startswith("RTMR2 event 3 ipl:x: not expected, got ")


def test_an_event_with_another_name_but_the_expected_digest_is_the_same_event() -> None:
    assert not event_differences(BOOT, [item._replace(name="event:0x6") for item in BOOT])


def test_the_first_difference_of_each_register_is_found() -> None:
    logged = [event("application", "evil", 1), event("load-options", "loud"), event("initrd", "two"), BOOT[3]]
    assert {r: d.name for r, d in first_differences(event_differences(BOOT, logged)).items()} == {
        1: "application", 2: "load-options",
    }  # fmt: skip


def test_a_register_left_out_is_not_compared() -> None:
    assert not event_differences(BOOT, BOOT[1:], registers=(0, 2))


def test_huge_lists_are_compared_at_once() -> None:
    ours = [event("a", f"ours {index}") for index in range(10_000)]
    theirs = [event("b", f"theirs {index}") for index in range(9_000)]
    start = time.process_time()
    assert len(event_differences(ours, theirs)) == 10_000
    assert time.process_time() - start < 5


@given(st.lists(st.sampled_from("abcdef"), max_size=12), st.lists(st.sampled_from("abcdef"), max_size=12))
def test_there_is_no_difference_exactly_if_the_registers_agree(ours: list[str], theirs: list[str]) -> None:
    expected, logged = [event(x) for x in ours], [event(x) for x in theirs]
    found = event_differences(expected, logged)
    assert (not found) == (replay(expected) == replay(logged))
    assert [d.place for d in found if d.kind != "missing"] == sorted(d.place for d in found if d.kind != "missing")
