"""What hosts said about launches, put together: which VM was launched when, what became of it, who attested after.

A launch whose host told no end and no later launch of the same VM counts as running. That is the host's word: a
launcher that was killed tells no end, and nothing of it is proven by a chip.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from attest.audit.record import DECISION, LAUNCH, LAUNCH_END
from attest.broker.questions import read_record
from attest.store import records
from attest.store.records import Filter
from policy.decide import AFFIRMING

RUNNING, ENDED, FOLLOWED = "running", "ended", "launched-again"
_FEW = 20


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch. ``time`` is when the record came, ``launched`` when the host says it was; ``state`` is one of those
    above. ``attested`` is the first accepted decision about the measurement from then until its end.
    """

    number: int
    time: datetime
    vm: str
    host: str
    launched: str
    measurement: str
    state: str
    outcome: str | None
    ended: str | None
    up_seconds: int | None
    attested: int | None


def launches_of(tx: Connection, vm: str) -> tuple[Launch, ...]:
    """Every launch of a VM by the name its host gives it, oldest first."""
    return _launches(tx, Filter(kinds=(LAUNCH,), vm=vm), limit=None)


def launches_with(tx: Connection, measurement: str, limit: int) -> tuple[Launch, ...]:
    """The newest launches of a measurement (hex), oldest first."""
    return _launches(tx, Filter(kinds=(LAUNCH,), measurement=measurement), limit)


def runs(tx: Connection, measurement: str) -> bool | None:
    """Whether the newest launch of a measurement (hex) has no end yet; ``None``: no host said that it launched it.

    Looks at a few records only: of a VM whose host tells of very many ends at once it may say yes for too long.
    """
    newest = records.find(tx, Filter(kinds=(LAUNCH,), measurement=measurement), limit=1)
    if not newest:
        return None
    ends = records.find(tx, Filter(kinds=(LAUNCH_END,), vm=newest[0].facts.vm), limit=_FEW)
    return all(read_record(end)["body"]["launch"] != newest[0].seq for end in ends)


def _launches(tx: Connection, wanted: Filter, limit: int | None) -> tuple[Launch, ...]:
    found = [(stored, read_record(stored)["body"]) for stored in records.find(tx, wanted, limit=limit)]
    told = {vm: _of_vm(tx, vm) for vm in {body["vm"] for _, body in found}}
    return tuple(_launch(tx, stored.seq, stored.time, body, told[body["vm"]]) for stored, body in found)


@dataclass(frozen=True, slots=True)
class _Told:
    """Of one VM: its launches' numbers by host, and the end of each launch."""

    launches: dict[str, list[int]]
    ends: dict[int, Any]


def _of_vm(tx: Connection, vm: str) -> _Told:
    launches: dict[str, list[int]] = {}
    ends: dict[int, Any] = {}
    for stored in records.stream(tx, Filter(kinds=(LAUNCH, LAUNCH_END), vm=vm)):
        body = read_record(stored)["body"]
        if stored.kind == LAUNCH:
            launches.setdefault(body["host"], []).append(stored.seq)
        elif body["launch"] is not None:
            ends[body["launch"]] = body
    return _Told(launches, ends)


def _launch(tx: Connection, number: int, time: datetime, body: Any, told: _Told) -> Launch:
    end = told.ends.get(number)
    again = any(later > number for later in told.launches[body["host"]])
    until = None if end is None else datetime.fromisoformat(end["time"])
    return Launch(
        number=number,
        time=time,
        vm=body["vm"],
        host=body["host"],
        launched=body["time"],
        measurement=body["measurement"],
        state=ENDED if end is not None else FOLLOWED if again else RUNNING,
        outcome=None if end is None else end["outcome"],
        ended=None if end is None else end["time"],
        up_seconds=None if end is None else end["up_seconds"],
        attested=_first(tx, body["measurement"], datetime.fromisoformat(body["time"]), until),
    )


def _first(tx: Connection, measurement: str, since: datetime, until: datetime | None) -> int | None:
    wanted = Filter(since=since, until=until, kinds=(DECISION,), measurement=measurement, outcome=AFFIRMING)
    return next((stored.seq for stored in records.stream(tx, wanted)), None)
