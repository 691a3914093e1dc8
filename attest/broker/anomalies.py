"""Gaps and anomalies in the records: what a person should look at. None of it proves that something is wrong.

:data:`KINDS` says which there are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from attest.audit.errors import AuditBroken
from attest.audit.record import DECISION, LAUNCH, LAUNCH_END, REFERENCE_ADD, RELEASE
from attest.broker.questions import read_record
from attest.store import checkpoints, records, tree
from attest.store.errors import TreeIncomplete
from attest.store.records import Filter, StoredRecord

SLACK = timedelta(minutes=1)
"""Requests read the clock once, before they wait for each other: a little disorder is normal."""
TOGETHER = timedelta(hours=1)
KINDS = {
    "number-gap": "record numbers are missing, or the tree has another size than the records",
    "altered": "a record does not say what it said when it was written",
    "clock-backwards": "a record is more than a minute older than the one before it",
    "clock-ahead": "a record was more than a minute later than the clock when it was looked at",
    "two-places": "one chip was seen from two networks within an hour (IPv4 /24, IPv6 /48)",
    "tcb-went-back": "a chip reported a lower TCB version than it had before",
    "never-registered": "a genuine guest ran a measurement that was no reference value until then",
    "silent-launch": "a host launched what no guest attested as within an hour, and told no end",
    "rolled-back": "a host launched a VM whose disks went back to a snapshot since its launch before",
    "unknown-launch": "a key went to a guest whose measurement no host ever said it launched, where hosts do say",
}
"""What each kind means."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """``numbers`` are the records it shows in; ``subject`` the chip, measurement or numbers it is about."""

    kind: str
    subject: str
    text: str
    numbers: tuple[int, ...]
    time: datetime | None


@dataclass(slots=True)
class _Seen:
    """What the records up to here said."""

    last: StoredRecord | None = None
    registered: set[str] = field(default_factory=set)
    launched: set[str] = field(default_factory=set)
    place: dict[str, tuple[str, StoredRecord]] = field(default_factory=dict)
    tcb: dict[str, tuple[Mapping[str, int], int]] = field(default_factory=dict)
    reported: set[str] = field(default_factory=set)
    epoch: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    awaited: dict[int, StoredRecord] = field(default_factory=dict)


@dataclass(slots=True)
class Scan:
    """A look through the log that goes on where it stopped: records never change, so what was found stays found.

    ``upto`` is the last record looked at, ``found`` what was of note, in the order of the records.
    """

    upto: int = 0
    found: list[Anomaly] = field(default_factory=list)
    _seen: _Seen = field(default_factory=_Seen)

    def advance(self, tx: Connection, now: datetime, go_on: Callable[[], bool] = lambda: True) -> None:
        """Look at the records that came since, as long as ``go_on``; it is asked after each."""
        for stored in records.stream(tx, Filter(after=self.upto)):
            self.found += _order(stored, self._seen, now)
            self.found += _read(stored, self._seen)
            self._seen.last, self.upto = stored, stored.seq
            if not go_on():
                return

    def everything(self, tx: Connection, now: datetime) -> tuple[Anomaly, ...]:
        """What was found, what is missing by now, and whether the tree fits where the log was looked at to its end."""
        size, more = checkpoints.size_of_log(tx), list(_silent(self._seen, now))
        if size == self.upto:
            more += _size(tx, self._seen.last)
        elif size < self.upto:
            text = f"the log ended at record {self.upto} when it was looked at, and ends at {size} now"
            more.append(Anomaly("number-gap", f"{size + 1} to {self.upto}", text, (), None))
        return (*self.found, *more)


def anomalies(tx: Connection, now: datetime, *, since: datetime | None = None) -> tuple[Anomaly, ...]:
    """Everything of note, in the order of the records; those before ``since`` only give the background."""
    scan = Scan()
    scan.advance(tx, now)
    return tuple(hit for hit in scan.everything(tx, now) if since is None or hit.time is None or hit.time >= since)


def _read(stored: StoredRecord, seen: _Seen) -> list[Anomaly]:
    try:
        return list(_content(stored, seen))
    except AuditBroken as exc:
        return [Anomaly("altered", str(stored.seq), exc.message, (stored.seq,), stored.time)]


def _order(stored: StoredRecord, seen: _Seen, now: datetime) -> Iterator[Anomaly]:
    before, number = seen.last, stored.seq
    expected = 1 if before is None else before.seq + 1
    if number != expected:
        missing = str(expected) if number == expected + 1 else f"{expected} to {number - 1}"
        yield Anomaly("number-gap", missing, f"record {missing} is missing", (number,), stored.time)
    if before is not None and before.time - stored.time > SLACK:
        text = f"record {number} is of {stored.time}, record {before.seq} before it of {before.time}"
        yield Anomaly("clock-backwards", str(before.time - stored.time), text, (before.seq, number), stored.time)
    if stored.time - now > SLACK:
        text = f"record {number} is of {stored.time}, now it is {now}"
        yield Anomaly("clock-ahead", str(stored.time - now), text, (number,), stored.time)


def _content(stored: StoredRecord, seen: _Seen) -> Iterator[Anomaly]:
    measurement = stored.facts.measurement
    if stored.kind == REFERENCE_ADD and measurement:
        seen.registered.add(measurement)
    elif stored.kind == LAUNCH and measurement:
        seen.launched.add(measurement)
        seen.awaited[stored.seq] = stored
        yield from _rollback(stored, read_record(stored), seen)
    elif stored.kind == LAUNCH_END:
        seen.awaited.pop(read_record(stored)["body"]["launch"] or 0, None)
    elif stored.kind == RELEASE and measurement:
        yield from _launch(stored, measurement, seen)
    elif stored.kind == DECISION and measurement:
        body = read_record(stored)["body"]
        _came(stored, measurement, seen)
        yield from _registration(stored, measurement, seen)
        if stored.facts.chip is not None:
            yield from _places(stored, stored.facts.chip, body.get("peer"), seen)
            yield from _tcb(stored, stored.facts.chip, body["claims"], seen)


def _came(stored: StoredRecord, measurement: str, seen: _Seen) -> None:
    """A guest of this measurement: whatever was launched shortly before may be it."""
    for number, launch in list(seen.awaited.items()):
        if launch.facts.measurement == measurement and stored.time - launch.time <= TOGETHER:
            del seen.awaited[number]


def _silent(seen: _Seen, now: datetime) -> Iterator[Anomaly]:
    for number, launch in seen.awaited.items():
        if now - launch.time > TOGETHER:
            text = f"{launch.subject} was launched, and no guest with its measurement attested within {TOGETHER}"
            yield Anomaly("silent-launch", launch.facts.measurement or "", text, (number,), launch.time)


def _rollback(stored: StoredRecord, record: Mapping[str, Any], seen: _Seen) -> Iterator[Anomaly]:
    """By host, for each counts for itself; a record without an epoch is of a VM that never went back."""
    host, epoch = str(record["actor"]["name"]), int(record["body"].get("epoch", 0))
    before, number = seen.epoch.get((host, stored.subject), (epoch, stored.seq))
    if epoch > before:
        text = f"{stored.subject} on {host} went back to a snapshot: epoch {before} -> {epoch}"
        yield Anomaly("rolled-back", stored.subject, text, (number, stored.seq), stored.time)
    seen.epoch[host, stored.subject] = epoch, stored.seq


def _launch(stored: StoredRecord, measurement: str, seen: _Seen) -> Iterator[Anomaly]:
    if seen.launched and measurement not in seen.launched:
        text = f"{stored.subject} went to a guest with a measurement that no host said it launched"
        yield Anomaly("unknown-launch", measurement, text, (stored.seq,), stored.time)


def _registration(stored: StoredRecord, measurement: str, seen: _Seen) -> Iterator[Anomaly]:
    """Once for a measurement."""
    if measurement not in seen.registered and measurement not in seen.reported:
        seen.reported.add(measurement)
        text = f"a genuine guest ({stored.outcome}) ran a measurement that was never registered until then"
        yield Anomaly("never-registered", measurement, text, (stored.seq,), stored.time)


def _places(stored: StoredRecord, chip: str, peer: str | None, seen: _Seen) -> Iterator[Anomaly]:
    here = None if peer is None else network_of(peer)
    if here is None:
        return
    there, before = seen.place.get(chip, (here, stored))
    if there != here and stored.time - before.time <= TOGETHER:
        text = f"from {there} and, {stored.time - before.time} later, from {here}"
        yield Anomaly("two-places", chip, text, (before.seq, stored.seq), stored.time)
    seen.place[chip] = here, stored


def _tcb(stored: StoredRecord, chip: str, claims: Mapping[str, Any], seen: _Seen) -> Iterator[Anomaly]:
    tcb = claims.get("reported_tcb")
    if not isinstance(tcb, Mapping):
        return
    before, number = seen.tcb.get(chip, (tcb, stored.seq))
    lower = [name for name in tcb if name in before and tcb[name] < before[name]]
    if lower:
        text = ", ".join(f"{name} {before[name]} -> {tcb[name]}" for name in lower)
        yield Anomaly("tcb-went-back", chip, text, (number, stored.seq), stored.time)
    seen.tcb[chip] = tcb, stored.seq


def _size(tx: Connection, last: StoredRecord | None) -> Iterator[Anomaly]:
    """The tree has every complete subtree over the records, and no leaf beyond them."""
    size = 0 if last is None else last.seq
    try:
        tree.root(tx, size)
    except TreeIncomplete as exc:
        yield Anomaly("number-gap", "tree", exc.message, (), None)
    if tree.has_leaf(tx, size):
        yield Anomaly("number-gap", str(size + 1), f"the tree goes on where the records end at {size}", (), None)


def network_of(peer: str) -> str | None:
    """The network an address belongs to; ``None`` for something that is no address."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False))
