"""The timer asks before requests would, not all at once, not more than one process, and says what it cannot renew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attest.collateral.clock import Budget, Clock
from attest.collateral.errors import CacheUnusable
from attest.collateral.intel_source import PcsSource
from attest.collateral.renewal import AnyWatched, Renewer, Watched, renewal_problem, renewal_state
from attest.collateral.source import CollateralSource
from tests.fakes.amd_pki import FakeAmdPki
from tests.fakes.intel_pki import NOW, FakeIntelPki, stamp
from tests.fakes.kds import FakeClock, FakeKds, Reply
from tests.fakes.pcs import EVERYTHING, TCB, FakePcs

AMD, INTEL = FakeAmdPki(), FakeIntelPki()
HOUR = timedelta(hours=1)
Counted = list[tuple[str, str]]


class World:
    """A cache with everything of one AMD chip and one Intel platform in it, and the services it came from."""

    def __init__(self, kds: FakeKds, pcs: FakePcs, folder: Path) -> None:
        self.kds, self.pcs, self.folder = kds, pcs, folder
        self.time = FakeClock(NOW.timestamp())
        self.amd: CollateralSource = kds.source(folder, clock=self.time.clock)
        self.intel: PcsSource = pcs.source(folder, clock=self.time.clock)
        self.counted: Counted = []
        for wanted in (kds.chain, kds.leaf, kds.list):
            self.amd.get(wanted, AMD.anchors, self.now, self.budget)
        for thing in EVERYTHING:
            self.intel.get(thing, INTEL.anchors, self.now, self.budget)
        self.forget()

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time.now, UTC)

    @property
    def budget(self) -> Budget:
        return Budget(self.time.clock, 60)

    @property
    def watched(self) -> tuple[AnyWatched, ...]:
        return Watched("amd", self.amd, AMD.anchors), Watched("intel", self.intel, INTEL.anchors)

    def renewer(self, chance: float = 0.5) -> Renewer:
        clock = self.time.clock
        return Renewer(
            self.folder,
            Clock(clock.monotonic, clock.wall, clock.sleep, lambda: chance),
            lambda vendor, outcome: self.counted.append((vendor, outcome)),
        )

    def forget(self) -> None:
        self.kds.asked.clear()
        self.pcs.asked.clear()

    @property
    def asked(self) -> list[str]:
        return [*self.kds.asked, *self.pcs.asked]

    def until(self, renewer: Renewer, length: timedelta) -> None:
        end = self.time.now + length.total_seconds()
        while self.time.now < end:
            self.time.sleep(min(renewer.round(self.watched), end - self.time.now))


@pytest.fixture
def world(kds: FakeKds, tmp_path: Path) -> Iterator[World]:
    with FakePcs(INTEL) as pcs:
        yield World(kds, pcs, tmp_path)


def test_nothing_is_asked_for_in_the_first_half_of_its_time(world: World) -> None:
    world.until(world.renewer(), 12 * HOUR - timedelta(minutes=6))
    assert world.asked == []
    assert renewal_problem(world.folder, world.now) is None


def test_lists_and_documents_are_renewed_before_a_request_would_ask_and_a_vcek_never(world: World) -> None:
    world.until(world.renewer(), 18 * HOUR + timedelta(minutes=6))
    assert len(world.kds.asked) == 1
    assert world.kds.asked == [world.kds.list.path]
    assert len(world.pcs.asked) == len(EVERYTHING)
    assert sorted(world.counted) == [("amd", "renewed"), *[("intel", "renewed")] * len(EVERYTHING)]
    world.forget()
    for wanted in EVERYTHING:  # a day and an hour after the first fetch, a request finds everything fresh
        world.intel.get(wanted, INTEL.anchors, NOW + 25 * HOUR, world.budget)
    assert world.asked == []


def test_a_chain_is_renewed_within_its_thirty_days(world: World) -> None:
    renewer = world.renewer()
    world.time.sleep(14 * 86400)
    world.kds.crl = lambda: AMD.crl(this_update=world.now - HOUR, next_update=world.now + 720 * HOUR)
    world.pcs.world = INTEL
    renewer.round(world.watched)
    assert world.kds.chain.path not in world.kds.asked
    world.time.sleep(9 * 86400)
    renewer.round(world.watched)
    assert world.kds.chain.path in world.kds.asked


def test_what_ends_within_the_day_is_renewed_before_its_end(world: World, tmp_path: Path) -> None:
    short = INTEL.with_(tcb_info={"nextUpdate": stamp(world.now + 7 * HOUR)})
    world.pcs.world = short
    source = world.pcs.source(tmp_path / "short", clock=world.time.clock)
    source.get(TCB, INTEL.anchors, world.now, world.budget)
    world.forget()
    one = (Watched("intel", source, INTEL.anchors),)
    renewer = world.renewer()
    world.time.sleep(1800)
    renewer.round(one)
    assert world.asked == []
    world.time.sleep(1900)
    renewer.round(one)
    assert len(world.asked) == 1


def test_things_fetched_together_are_not_asked_for_together(world: World) -> None:
    renewer, times = world.renewer(), list[float]()
    while len(times) < 5:
        before = len(world.asked)
        pause = renewer.round(world.watched)
        times += [world.time.now] * (len(world.asked) - before)
        world.time.sleep(pause)
    assert len({round(moment / 600) for moment in times}) >= 3
    dues = {world.renewer(chance)._due(TCB, timedelta(days=1), NOW, None) for chance in (0.1, 0.2, 0.3, 0.4)}
    assert len(dues) > 1


def test_what_fails_stays_in_use_is_tried_again_ever_later_and_is_said(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    renewer = world.renewer()
    world.time.sleep(18.1 * 3600)
    world.kds.always = Reply(status=404)
    renewer.round(world.watched)
    assert ("amd", "failed") in world.counted
    assert renewal_problem(world.folder, world.now) == "collateral.renewal-failing"
    state = renewal_state(world.folder)
    assert state is not None
    assert state.failing == (world.kds.list.name,)
    assert any("not renewed, the last one stays in use: Genoa VCEK CRL" in record.message for record in caplog.records)
    first = len(world.kds.asked)
    world.until(renewer, 10 * HOUR)
    assert 10 <= len(world.kds.asked) - first <= 25
    held = world.amd.cached(world.kds.list, AMD.anchors, world.now)
    assert held is not None
    world.kds.always = None
    world.until(renewer, 2 * HOUR)
    assert renewal_problem(world.folder, world.now) is None


def test_a_failure_counts_no_more_once_somebody_else_got_the_thing(world: World) -> None:
    renewer = world.renewer()
    world.time.sleep(18.1 * 3600)
    world.kds.always = Reply(status=404)
    renewer.round(world.watched)
    world.kds.always = None
    world.time.sleep(5)
    world.amd.get(world.kds.list, AMD.anchors, world.now, world.budget, refresh=True)
    renewer.round(world.watched)
    assert renewal_problem(world.folder, world.now) is None


def test_a_request_waits_for_nobody_while_a_timer_renews_and_asks_for_what_has_ended(world: World) -> None:
    world.intel.renewed_by_timer = True
    later = NOW + 3 * 24 * HOUR
    world.intel.get(TCB, INTEL.anchors, later, world.budget)
    assert world.asked == []
    world.pcs.world = INTEL.with_(
        tcb_info={"issueDate": stamp(NOW + 40 * 24 * HOUR), "nextUpdate": stamp(NOW + 60 * 24 * HOUR)}
    )
    ended = NOW + 41 * 24 * HOUR
    held = world.intel.get(TCB, INTEL.anchors, ended, world.budget)
    assert len(world.asked) == 1
    assert held is not None
    assert held.problem is None


class Stop(Exception):
    """Ends the loop of a test."""


def stop_after(time: FakeClock, pauses: int) -> Clock:
    left = [pauses]

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        left[0] -= 1
        if not left[0]:
            raise Stop

    return Clock(lambda: time.now, lambda: time.now, sleep, lambda: 0.5)


def test_one_process_renews_a_cache_and_another_takes_over_when_it_is_gone(world: World) -> None:
    looked: list[str] = []

    def second() -> tuple[AnyWatched, ...]:
        looked.append("second")
        return ()

    def first() -> tuple[AnyWatched, ...]:
        looked.append("first")
        with pytest.raises(Stop):
            Renewer(world.folder, stop_after(world.time, 3), lambda *_: None).run(second)
        return ()

    with pytest.raises(Stop):
        Renewer(world.folder, stop_after(world.time, 1), lambda *_: None).run(first)
    assert looked == ["first"]
    with pytest.raises(Stop):
        Renewer(world.folder, stop_after(world.time, 1), lambda *_: None).run(second)
    assert looked == ["first", "second"]


def test_what_goes_wrong_in_a_round_is_logged_and_the_next_round_comes(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def away() -> tuple[AnyWatched, ...]:
        raise CacheUnusable("the disk is full")

    with pytest.raises(Stop):
        Renewer(world.folder, stop_after(world.time, 2), lambda *_: None).run(away)
    assert [record.message for record in caplog.records].count("collateral renewal: the disk is full") == 2


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"schema": "x"}', b'{"schema":"attest.collateral.renewal/1","at":"2026-01-01","failing":{}}'],
)
def test_a_state_that_is_missing_damaged_or_old_says_that_nobody_renews(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "renewal.json").write_bytes(data)
    assert renewal_problem(tmp_path, NOW) == "collateral.renewal-stopped"
    state = {"schema": "attest.collateral.renewal/1", "at": NOW.isoformat(), "failing": {}}
    (tmp_path / "renewal.json").write_text(json.dumps(state))
    assert renewal_problem(tmp_path, NOW + timedelta(minutes=29)) is None
    assert renewal_problem(tmp_path, NOW + timedelta(minutes=31)) == "collateral.renewal-stopped"
