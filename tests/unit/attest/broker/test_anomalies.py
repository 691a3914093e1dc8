"""Gaps and anomalies: each one alone in otherwise quiet records, and none in quiet ones."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from attest.audit.record import LAUNCH, Actor, Event
from attest.broker.anomalies import KINDS, Scan, anomalies, network_of
from attest.broker.trail import append
from attest.store.schema import audit, leaves
from policy.snp import TcbVersion
from tests.fakes.amd_pki import CHIP, Leaf
from tests.fakes.kbs_client import KbsClient, KbsError, WsgiTransport
from tests.fakes.service_world import GOOD, OTHER, PATH, PKI, ServiceWorld, evidence


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    found = ServiceWorld(tmp_path / "service")
    visit(found)
    return found


def visit(world: ServiceWorld, peer: str = "192.0.2.1", pki: Any = PKI, **fields: Any) -> None:
    """A guest from an address."""
    web = world.guest_app().test_client(use_cookies=False)
    web.environ_base["REMOTE_ADDR"] = peer
    guest = KbsClient(WsgiTransport(web), lambda data: evidence(data, pki=pki, **fields))
    with suppress(KbsError):
        guest.resource(str(PATH))


def found(world: ServiceWorld, **more: Any) -> list[tuple[str, tuple[int, ...]]]:
    with world.database.read() as tx:
        return [(item.kind, item.numbers) for item in anomalies(tx, world.now, **more)]


def test_quiet_records_have_none(world: ServiceWorld) -> None:
    assert found(world) == []


def test_a_record_that_was_removed_leaves_a_gap(world: ServiceWorld) -> None:
    with world.database.write() as tx:
        tx.execute(delete(audit).where(audit.c.seq == 2))
    assert ("number-gap", (3,)) in found(world)


def test_a_tree_that_goes_on_after_the_last_record_is_a_gap(world: ServiceWorld) -> None:
    with world.database.write() as tx:
        tx.execute(delete(audit).where(audit.c.seq == 5))
    assert found(world) == [("number-gap", ())]


def test_a_tree_that_lacks_a_node_is_a_gap(world: ServiceWorld) -> None:
    with world.database.write() as tx:
        tx.execute(update(leaves).where(leaves.c.number == 3).values(hashes=bytes(64)))  # of three hashes
    assert found(world) == [("number-gap", ())]


def test_a_clock_that_was_turned_back_shows(world: ServiceWorld) -> None:
    world.later(minutes=-2)
    world.put(replace=True)
    world.later(minutes=2)
    assert found(world) == [("clock-backwards", (5, 6))]


def test_one_chip_from_two_networks_within_the_hour(world: ServiceWorld) -> None:
    visit(world, "192.0.2.77")
    assert found(world) == []
    world.later(minutes=30)
    visit(world, "198.51.100.7")
    assert found(world) == [("two-places", (6, 8))]
    world.later(hours=2)
    visit(world, "203.0.113.9")
    assert len(found(world)) == 1
    assert found(world, since=world.now) == []


def test_a_measurement_that_was_never_registered_shows_once(world: ServiceWorld) -> None:
    visit(world, measurement=OTHER)
    visit(world, measurement=OTHER)
    assert found(world) == [("never-registered", (6,))]


def test_a_chip_whose_tcb_went_back_shows(world: ServiceWorld) -> None:
    lower = TcbVersion(10, 0, 23, 84)
    raw = int.from_bytes(bytes([10, 0, 0, 0, 0, 0, 23, 84]), "little")
    old = PKI.with_(leaf=Leaf(tcb=lower, hwid=CHIP))
    visit(world, pki=old, reported_tcb=raw)
    assert found(world) == [("tcb-went-back", (4, 6))]


def test_a_release_to_what_no_host_launched_shows_once_hosts_say_what_they_launch(world: ServiceWorld) -> None:
    with world.database.write() as tx:
        append(tx, Event(world.now, LAUNCH, "web-9", "started", Actor("host", "h1"), {"measurement": OTHER.hex()}))
    assert found(world) == []
    visit(world)
    assert found(world) == [("unknown-launch", (8,))]
    with world.database.write() as tx:
        append(tx, Event(world.now, LAUNCH, "web-1", "started", Actor("host", "h1"), {"measurement": GOOD.hex()}))
    visit(world)
    assert len(found(world)) == 1


def test_a_vm_that_went_back_to_a_snapshot_shows_at_its_next_launch_and_once(world: ServiceWorld) -> None:
    for host, epoch in (("h1", None), ("h2", 5), ("h1", 1), ("h1", 1), ("h2", 5)):
        body = {"measurement": GOOD.hex(), **({} if epoch is None else {"epoch": epoch})}
        with world.database.write() as tx:
            append(tx, Event(world.now, LAUNCH, "web-1", "launched", Actor("host", host), body))
    (hit,) = found(world)
    assert hit[0] == "rolled-back"
    assert hit[1][1] - hit[1][0] == 2, "the launch before on the same host"


def test_a_record_from_the_future_shows(world: ServiceWorld) -> None:
    world.later(hours=1)
    world.put(replace=True)
    world.now -= timedelta(hours=1)
    assert found(world) == [("clock-ahead", (6,))]


@pytest.mark.parametrize(
    ("peer", "network"),
    [("192.0.2.77", "192.0.2.0/24"), ("2001:db8:1:2::9%eth0", "2001:db8:1::/48"), ("unix", None)],
)
def test_places_are_networks(peer: str, network: str | None) -> None:
    assert network_of(peer) == network


def test_a_record_that_was_altered_shows_and_the_look_goes_on(world: ServiceWorld) -> None:
    visit(world)
    with world.database.write() as tx:
        raw = tx.execute(select(audit.c.record).where(audit.c.seq == 4)).scalar_one()
        tx.execute(update(audit).where(audit.c.seq == 4).values(record=raw.replace(b"{", b"{ ", 1)))
    assert ("altered", (4,)) in found(world)


def test_a_look_goes_on_where_it_stopped_and_finds_the_same(world: ServiceWorld) -> None:
    visit(world, measurement=OTHER)
    visit(world, peer="198.51.100.7")
    scan = Scan()
    with world.database.read() as tx:
        while scan.upto < len(world.records()):
            scan.advance(tx, world.now, lambda: False)
        assert scan.everything(tx, world.now) == anomalies(tx, world.now)
    assert {hit.kind for hit in scan.found} == {"never-registered", "two-places"}
    assert {hit.kind for hit in scan.found} <= set(KINDS)
    world.put(replace=True)
    with world.database.write() as tx:
        scan.advance(tx, world.now)
        tx.execute(delete(audit).where(audit.c.seq == scan.upto))
    with world.database.read() as tx:
        assert "ends at" in scan.everything(tx, world.now)[-1].text, "a log that became shorter shows"
