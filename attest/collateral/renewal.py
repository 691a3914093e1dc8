"""Collateral renewed before it ends, by one process for each cache, so that no guest waits for AMD or Intel.

Asked for again is what has an age (chains, lists, TCB infos, QE identities; a VCEK never changes) and is in the cache,
once between half and three quarters of the time are over after which a request would ask itself, and before its own
end. Where in between is a matter of chance for each thing and process, so that machines set up together do not ask
together. What fails stays in use and is tried again after a minute, then later and later, at most hourly.

However many services share a cache, one of them holds its lock and renews; the others take over when it is gone.
``renewal.json`` in the cache says when it last looked and what it could not renew, for all of them to read.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, NamedTuple

from attest.collateral.cache import Named
from attest.collateral.clock import Budget, Clock
from attest.collateral.errors import CollateralPaced, CollateralUnavailable
from attest.collateral.files import locked, make_folder, read_bounded, replace
from attest.collateral.keeper import A, Item, Keeper, W
from policy.errors import CvmError, MalformedInput
from policy.strictjson import strict_json

RENEWED, FAILED = "renewed", "failed"
LONGEST_PAUSE = 300.0
STOPPED_AFTER = timedelta(minutes=30)
_SCHEMA = "attest.collateral.renewal/1"
_STATE, _LOCK = "renewal.json", "renewal.lock"
_ASK_SECONDS = 60.0
_FIRST_AGAIN, _LAST_AGAIN = 60.0, 3600.0
_TAKE_OVER_SECONDS = 30.0
_MAX_STATE = 1 << 20
_log = logging.getLogger("attest.renewal")

Report = Callable[[str, str], None]
"""Called with the vendor and :data:`RENEWED` or :data:`FAILED` for each thing that was asked for."""


@dataclass(frozen=True, slots=True)
class Watched(Generic[W, A, Item]):
    """One vendor's part of the cache, and the anchors under which its things are verified today."""

    vendor: str
    keeper: Keeper[W, A, Item]
    anchors: A


AnyWatched = Watched[Any, Any, Any]


class Failing(NamedTuple):
    """A thing that could not be renewed: since when, how often tried, when again, and why the last time."""

    since: datetime
    tries: int
    again: datetime
    code: str
    message: str


class Renewer:
    """Renews what is due among the things of a cache ``folder``. Remembers what failed; one thread."""

    def __init__(self, folder: Path, clock: Clock, report: Report) -> None:
        self._folder, self._clock, self._report = folder, clock, report
        self._salt = f"{clock.random()}"
        self._failing: dict[str, Failing] = {}

    def run(self, watched: Callable[[], Sequence[AnyWatched]]) -> None:
        """For ever; ``watched`` is asked in every round, because policies change. What goes wrong is logged."""
        while True:
            try:
                make_folder(self._folder)
                with locked(self._folder / _LOCK, self._clock, 0.0):
                    while True:
                        self._clock.sleep(self.round(watched()))
            except CollateralPaced:
                pass  # another process renews
            except CvmError as exc:
                _log.warning("collateral renewal: %s", exc)
            self._clock.sleep(_TAKE_OVER_SECONDS * (0.5 + self._clock.random()))

    def round(self, watched: Iterable[AnyWatched]) -> float:
        """Renew what is due now; returns the seconds until there may be more to do. Raises CacheUnusable."""
        names, soonest = set(), self._now() + timedelta(seconds=LONGEST_PAUSE)
        for one in watched:
            for wanted in list(one.keeper.things()):
                names.add(wanted.name)
                soonest = min(soonest, self._look_at(one, wanted) or soonest)
        self._failing = {name: failing for name, failing in self._failing.items() if name in names}
        self._tell()
        return max(1.0, (soonest - self._now()).total_seconds())

    def _look_at(self, one: Watched[W, A, Item], wanted: W) -> datetime | None:
        """When to look at a thing again, after renewing it if it is due; ``None`` for what is not renewed."""
        every = one.keeper.refresh_after(wanted)
        held = None if every is None else one.keeper.cached(wanted, one.anchors, self._now())
        if every is None or held is None:
            return None  # what does not verify under today's anchors is fetched by who needs it
        due = self._due(wanted, every, held.fetched, one.keeper.ends(held.item))
        failing = self._failing.get(wanted.name)
        if failing is not None and held.fetched > failing.since:  # somebody else got it meanwhile
            failing = None
            del self._failing[wanted.name]
        due = due if failing is None else failing.again
        if self._now() < due:
            return due
        self._tell()
        return self._renew(one, wanted)

    def _due(self, wanted: Named, every: timedelta, fetched: datetime, ends: datetime | None) -> datetime:
        chance = hashlib.sha256(f"{self._salt} {wanted.name} {fetched}".encode()).digest()[0] / 256
        due = fetched + every * (0.5 + chance / 4)
        if ends is not None:
            due = min(due, ends - every / 4)
        return max(due, fetched + every / 48)  # what lives shorter than it is left alone for a while too

    def _renew(self, one: Watched[W, A, Item], wanted: W) -> datetime:
        now = self._now()
        try:
            held = one.keeper.get(wanted, one.anchors, now, Budget(self._clock, _ASK_SECONDS), refresh=True)
            problem = None if held is None else held.problem
        except CollateralUnavailable as exc:
            problem = exc
        if isinstance(problem, CollateralPaced):  # nobody was asked: other things come first, or the service is away
            return self._now() + timedelta(seconds=max(problem.retry_after or 0.0, 5.0))
        if problem is not None:
            return self._failed(one.vendor, wanted, problem)
        self._failing.pop(wanted.name, None)
        self._report(one.vendor, RENEWED)
        _log.info("collateral renewed: %s", wanted)
        return self._now() + timedelta(seconds=LONGEST_PAUSE)

    def _failed(self, vendor: str, wanted: Named, problem: CollateralUnavailable) -> datetime:
        before, now = self._failing.get(wanted.name), self._now()
        tries = 1 if before is None else before.tries + 1
        pause = min(_LAST_AGAIN, _FIRST_AGAIN * 2.0 ** min(tries - 1, 10)) * (0.5 + self._clock.random() / 2)
        again = now + timedelta(seconds=max(pause, problem.retry_after or 0.0))
        since = now if before is None else before.since
        self._failing[wanted.name] = Failing(since, tries, again, problem.code, problem.message[:300])
        self._report(vendor, FAILED)
        _log.warning("collateral not renewed, the last one stays in use: %s", problem.message)
        return again

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), UTC)

    def _tell(self) -> None:
        """Also before each question: a round may take long, and somebody watches whether we live."""
        value = {
            "schema": _SCHEMA,
            "at": self._now().isoformat(),
            "failing": {
                name: {"since": item.since.isoformat(), "tries": item.tries, "code": item.code, "message": item.message}
                for name, item in self._failing.items()
            },
        }
        replace(self._folder / _STATE, json.dumps(value, indent=1).encode() + b"\n", durable=False)


class RenewalState(NamedTuple):
    """What the process that renews said last: when, and the names of what it cannot renew."""

    at: datetime
    failing: tuple[str, ...]


def renewal_state(folder: Path) -> RenewalState | None:
    """The state beside the cache in ``folder``; ``None`` where nobody has renewed anything, or the file is damaged."""
    try:
        value = strict_json(read_bounded(folder / _STATE, _MAX_STATE), "renewal", max_bytes=_MAX_STATE)
        at = datetime.fromisoformat(value["at"])
        if value["schema"] != _SCHEMA or at.tzinfo is None:
            return None
        return RenewalState(at, tuple(sorted(value["failing"])))
    except (MalformedInput, KeyError, TypeError, ValueError):
        return None


def renewal_problem(folder: Path, now: datetime) -> str | None:
    """The code of what is wrong with the renewal of this cache: it does not run, or something cannot be renewed."""
    state = renewal_state(folder)
    if state is None or now - state.at > STOPPED_AFTER:
        return "collateral.renewal-stopped"
    return "collateral.renewal-failing" if state.failing else None
