"""What hosts said about launches, put together: which VM was launched when, what became of it, who attested after.

A launch whose host told no end and no later launch of the same VM counts as running. That is the host's word: a
launcher that was killed tells no end, and nothing of it is proven by a chip.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from attest.audit.errors import AuditBroken
from attest.audit.record import LAUNCH, LAUNCH_END
from attest.broker.questions import BY_HOSTS, read_record
from attest.store import launches, records
from attest.store.records import StoredRecord

RUNNING, ENDED, FOLLOWED = "running", "ended", "launched-again"
_FEW = 40


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
    told = _of_vm(tx, vm)
    return tuple(_launch(tx, stored, body, told) for stored, body in told.launches)


def launches_with(tx: Connection, measurement: str, limit: int) -> tuple[Launch, ...]:
    """The newest launches of a measurement (hex), oldest first."""
    found = _read(launches.records_of(tx, measurement=measurement, limit=limit), "measurement", measurement)
    told = {vm: _of_vm(tx, vm) for vm in {body["vm"] for _, body in found}}
    return tuple(_launch(tx, stored, body, told[body["vm"]]) for stored, body in found)


def runs(tx: Connection, measurement: str) -> bool | None:
    """Whether the newest launch of a measurement (hex) has no end yet; ``None``: no host said that it launched it.

    Looks at a few records only: of a VM whose host tells of very many ends at once it may say yes for too long.
    """
    newest = _read(launches.records_of(tx, measurement=measurement, limit=1), "measurement", measurement)
    if not newest:
        return None
    launch, said = newest[0]
    after = _read(launches.records_of(tx, vm=said["vm"], limit=_FEW), "vm", said["vm"])
    return all(body.get("launch") != launch.seq for _, body in after)


_Read = tuple[StoredRecord, Any]
"""A record and its body."""


def _read(found: Iterable[StoredRecord], name: str, value: str) -> list[_Read]:
    """Records that the table of statements found by ``name``. Raises AuditBroken where one is of something else."""
    bodies = [(stored, read_record(stored)["body"]) for stored in found]
    for stored, body in bodies:
        if stored.kind not in BY_HOSTS or body.get(name) != value:
            raise AuditBroken(
                f"audit record {stored.seq}: is no statement of a host about {name} {value}, as its index says"
            )
    return bodies


@dataclass(frozen=True, slots=True)
class _Told:
    """Of one VM: its launches, oldest first, the number of each host's newest, and ends by their launch's number."""

    launches: list[_Read]
    newest: dict[str, int]
    ends: dict[int, Any]


def _of_vm(tx: Connection, vm: str) -> _Told:
    found = _read(launches.records_of(tx, vm=vm), "vm", vm)
    ends = {body["launch"]: body for stored, body in found if stored.kind == LAUNCH_END}
    started = [entry for entry in found if entry[0].kind == LAUNCH]
    return _Told(started, {body["host"]: stored.seq for stored, body in started}, ends)


def _launch(tx: Connection, stored: StoredRecord, body: Any, told: _Told) -> Launch:
    end = told.ends.get(stored.seq)
    again = told.newest[body["host"]] > stored.seq
    until = None if end is None else datetime.fromisoformat(end["time"])
    return Launch(
        number=stored.seq,
        time=stored.time,
        vm=body["vm"],
        host=body["host"],
        launched=body["time"],
        measurement=body["measurement"],
        state=ENDED if end is not None else FOLLOWED if again else RUNNING,
        outcome=None if end is None else end["outcome"],
        ended=None if end is None else end["time"],
        up_seconds=None if end is None else end["up_seconds"],
        attested=records.first_accepted(tx, body["measurement"], datetime.fromisoformat(body["time"]), until),
    )
