"""Release conditions: each one alone decides, and a document that says something else is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from policy.errors import ConfigInvalid
from policy.release_conditions import GuestFacts, History, failing, parse_conditions

NOW = datetime(2026, 7, 1, 7, tzinfo=UTC)
EVERYTHING = b"""
vm = ["web-1"]
service = ["shop"]
launch_digest = ["%s"]
minimum_tcb = {snp = 23, microcode = 210}
not_before = 2026-07-01T06:00:00Z
not_after = 2026-07-01T08:00:00Z
per_hour = 4
once = true
clones = "refuse"
approval = {need = 2, of = ["olga", "otto", "petra"]}
""" % (b"11" * 48)
GUEST: dict[str, Any] = {
    "launch_digest": "11" * 48,
    "vm": "web-1",
    "service": "shop",
    "machine": "aa",
    "instance": "01",
    "tcb": {"bootloader": 3, "tee": 0, "snp": 23, "microcode": 211},
}
PAST: dict[str, Any] = {"last_hour": 3, "approved_by": frozenset({"olga", "petra", "mallory"})}


def failed(now: datetime = NOW, guest: dict[str, Any] | None = None, **past: Any) -> tuple[str, ...]:
    facts = GuestFacts(**{**GUEST, **(guest or {})})
    return failing(parse_conditions(EVERYTHING), facts, History(**{**PAST, **past}), now)


def test_a_guest_that_meets_everything_gets_it() -> None:
    assert failed() == ()


def test_an_empty_document_asks_for_nothing_even_of_a_guest_nothing_is_known_of() -> None:
    assert failing(parse_conditions(b""), GuestFacts(), History(last_hour=10**6, since_set=9), NOW) == ()


@pytest.mark.parametrize(
    ("guest", "name"),
    [
        ({"vm": "web-2"}, "condition.vm"),
        ({"vm": None}, "condition.vm"),
        ({"service": None}, "condition.service"),
        ({"launch_digest": "22" * 48}, "condition.launch-digest"),
        ({"tcb": {"snp": 22, "microcode": 255}}, "condition.minimum-tcb"),
        ({"tcb": {"snp": 23}}, "condition.minimum-tcb"),
        ({"tcb": None}, "condition.minimum-tcb"),
    ],
)
def test_what_the_guest_is_decides_and_no_break_glass_waives_it(guest: dict[str, Any], name: str) -> None:
    assert failed(guest=guest) == (name,)
    assert failed(guest=guest, break_glass=7) == (name,)


@pytest.mark.parametrize(
    ("past", "name"),
    [
        ({"last_hour": 4}, "condition.per-hour"),
        ({"since_set": 1}, "condition.once"),
        ({"approved_by": frozenset({"olga"})}, "condition.approval"),
        ({"approved_by": frozenset({"olga", "mallory"})}, "condition.approval"),
        ({"other_machine": True}, "clone.other-machine"),
        ({"superseded": True}, "clone.came-back"),
    ],
)
def test_what_happened_before_decides_and_break_glass_waives_it(past: dict[str, Any], name: str) -> None:
    assert failed(**past) == (name,)
    assert failed(**past, break_glass=7) == ()


@pytest.mark.parametrize(
    ("minutes", "good"), [(-61, False), (-60, True), (59, True), (60, False)], ids=["early", "first", "last", "late"]
)
def test_a_window_begins_with_its_first_moment_and_ends_before_its_last(minutes: int, good: bool) -> None:
    assert failed(NOW + timedelta(minutes=minutes)) == (() if good else ("condition.time-window",))


def test_a_machine_that_is_masked_cannot_be_watched() -> None:
    assert failed(guest={"machine": None}) == ("clone.machine-unknown",)


@pytest.mark.parametrize(
    "text",
    [
        b"vms = ['web-1']",
        b"vm = []",
        b"vm = 'web-1'",
        b"vm = ['a', 'a']",
        b"launch_digest = ['11']",
        b"minimum_tcb = {sev = 1}",
        b"minimum_tdx_tcb = {}",
        b"minimum_tdx_tcb = {status = 1}",
        b"minimum_tdx_tcb = {statuses = []}",
        b'minimum_tdx_tcb = {statuses = ["Fine"]}',
        b'minimum_tdx_tcb = {statuses = [["UpToDate"]]}',
        b'minimum_tdx_tcb = {tcb_date = "2025-08-13"}',
        b"minimum_tdx_tcb = {tcb_date = 2025-08-13T00:00:00Z}",
        b"minimum_tdx_tcb = {evaluation = 0}",
        b"minimum_tdx_tcb = {evaluation = true}",
        b"minimum_tcb = {snp = 256}",
        b"not_before = 2026-07-01T06:00:00",
        b"not_before = 2026-07-01T06:00:00Z\nnot_after = 2026-07-01T06:00:00Z",
        b"per_hour = 0",
        b"per_hour = true",
        b"once = 1",
        b"clones = 'ignore'",
        b"approval = {need = 3, of = ['olga', 'otto']}",
        b"approval = {need = 0, of = ['olga']}",
        b"approval = {of = ['olga']}",
        b"vm = [",
        b"\xff",
        b"#" * 20000,
    ],
)
def test_a_document_that_says_something_else_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigInvalid):
        parse_conditions(text)


TD = {"status": "UpToDate", "tcb_date": "2025-08-13", "evaluation": 19}
FLOOR = b'minimum_tdx_tcb = {statuses = ["UpToDate", "SWHardeningNeeded"], tcb_date = 2025-08-13, evaluation = 19}\n'


@pytest.mark.parametrize(
    ("tcb", "good"),
    [
        ({}, True),
        ({"status": "SWHardeningNeeded", "tcb_date": "2026-01-01", "evaluation": 20}, True),
        ({"status": "OutOfDate"}, False),
        ({"tcb_date": "2025-08-12"}, False),
        ({"evaluation": 18}, False),
    ],
)
def test_a_td_reaches_its_floor_by_status_date_and_evaluation(tcb: dict[str, Any], good: bool) -> None:
    facts = GuestFacts(tdx_tcb={**TD, **tcb})
    assert (failing(parse_conditions(FLOOR), facts, History(), NOW) == ()) == good


def test_each_platform_has_its_own_floor_and_none_means_refused_where_the_other_has_one() -> None:
    snp, td = GuestFacts(tcb={"snp": 23}), GuestFacts(tdx_tcb=TD)
    both = b"minimum_tcb = {snp = 23}\n" + FLOOR
    refused = ("condition.minimum-tcb",)
    for document, facts, want in (
        (both, snp, ()), (both, td, ()), (both, GuestFacts(tcb={"snp": 22}), refused), (both, GuestFacts(), refused),
        (FLOOR, snp, refused), (b"minimum_tcb = {snp = 23}\n", td, refused),
    ):  # fmt: skip
        assert failing(parse_conditions(document), facts, History(), NOW) == want, (document, facts)
