"""Group commit: what many threads write, flushed to stable storage together.

One flush costs as much for a hundred records as for one. The first thread that comes becomes the leader and writes for
all that wait meanwhile; everybody returns when their own part is durable, never before. A batch that fails fails for
everybody in it: nothing of it was acknowledged.

Writers come back as soon as their batch is written. A leader that did not wait for them would write half of them at a
time, so it waits for as many as there were, but never longer than a part of what the last batch took. They are woken
one by another, not all by the leader: of threads that wake together all but one only wait for the interpreter.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection

from attest.store.engine import Database
from attest.store.errors import StoreUnavailable
from attest.store.savepoint import Parts
from policy.errors import CvmError

MOST = 512
"""Jobs of one transaction, so that no thread waits for an endless one."""
_PATIENCE, _LONGEST = 0.5, 0.002
"""How long a leader waits for those who wrote before: a part of the last batch's time, at most so many seconds."""
T = TypeVar("T")
Job = Callable[[Connection], T]


class _Waiting:
    """One job on its way. ``turn`` is released when it is written, failed, or its thread shall lead; its thread then
    wakes the one ``behind``. ``left``: its thread waits no more, because a signal interrupted it.
    """

    __slots__ = ("behind", "called", "done", "failure", "found", "job", "lasting", "left", "turn")

    def __init__(self, job: Job[Any], *, lasting: bool) -> None:
        self.job, self.lasting = job, lasting
        self.found: Any = None
        self.failure: Exception | None = None
        self.behind: _Waiting | None = None
        self.called = self.done = self.left = False
        self.turn = threading.Lock()
        self.turn.acquire()

    def wake_behind(self) -> None:
        """Once."""
        behind, self.behind = self.behind, None
        if behind is not None:
            behind.turn.release()


class GroupWrites:
    """Runs what threads have to do in one database, several of them in one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._led = False
        self._there = threading.Event()
        self._expected = 0
        self._spent = 0.0

    def run(self, job: Job[T], *, lasting: bool = True) -> T:
        """What ``job`` returns, once all it wrote is durable; ``lasting=False``: once it is written
        (:meth:`Database.write`).

        An error of ours that ``job`` raises undoes what it wrote and is raised; others go on. Any other error may have
        left the transaction unusable: it undoes all of the batch. ``job`` may run in another thread than the caller's.
        Raises StoreUnavailable where the transaction failed.
        """
        mine = _Waiting(job, lasting=lasting)
        try:
            if not self._queue(mine):
                mine.turn.acquire()
                mine.wake_behind()
            if not mine.done:
                self._lead(mine)
        except BaseException:  # a signal's handler raised: nobody shall wait for this thread
            with self._lock:
                mine.left = True
                mine.wake_behind()
                if mine.called and not mine.done:
                    self._appoint()
            raise
        if mine.failure is not None:
            raise mine.failure
        found: T = mine.found
        return found

    def _queue(self, mine: _Waiting) -> bool:
        """Into the line; true where nobody leads, so that this thread has to."""
        with self._lock:
            self._waiting.append(mine)
            leads = mine.called = not self._led
            self._led = True
            if len(self._waiting) >= self._expected:
                self._there.set()
        return leads

    def _appoint(self) -> None:
        """Let the first in line lead whose thread is there."""
        successor = next((waiting for waiting in self._waiting if not waiting.left), None)
        self._led = successor is not None
        if successor is not None:
            successor.called = True
            successor.turn.release()

    def _lead(self, mine: _Waiting) -> None:
        """Write what waits, this thread's own part among it, then let the next in line lead."""
        batch: list[_Waiting] = []
        start = time.monotonic()
        try:
            batch = self._gather()
            start = time.monotonic()
            with self._database.write(lasting=any(part.lasting for part in batch)) as tx:
                _write(tx, batch)
        except BaseException as exc:
            interrupted = StoreUnavailable("audit record not written: the writer was interrupted")
            for item in batch:
                item.failure = exc if isinstance(exc, Exception) else interrupted
            if not isinstance(exc, Exception):
                raise
        finally:
            self._spent = time.monotonic() - start
            self._hand_over(batch, mine)

    def _gather(self) -> list[_Waiting]:
        """Those who wait, when all who are expected do or patience has ended."""
        with self._lock:
            if len(self._waiting) < self._expected:
                self._there.clear()
        if not self._there.is_set():
            self._there.wait(min(_PATIENCE * self._spent, _LONGEST))
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]

    def _hand_over(self, batch: Sequence[_Waiting], mine: _Waiting) -> None:
        """Appoint the next leader, and wake the first of those whose parts are written; ``mine`` is this thread's."""
        with self._lock:
            mine.left, mine.called = True, False  # whatever becomes of its part, this thread has led
            self._expected = min(MOST, len(batch) + len(self._waiting))
            first = None
            for waiting in reversed(batch):
                waiting.done = True
                if not waiting.left:
                    waiting.called, waiting.behind, first = True, first, waiting
            self._appoint()
            if first is not None:
                first.turn.release()


def _write(tx: Connection, batch: Sequence[_Waiting]) -> None:
    """Run the jobs, and set what each gave: ``found`` or ``failure``. Raising fails the whole batch."""
    if len(batch) == 1:  # whoever is alone has the transaction
        batch[0].found = batch[0].job(tx)
        return
    parts = Parts(tx)
    for waiting in batch:
        parts.begin()
        try:
            waiting.found = waiting.job(tx)
        except StoreUnavailable:
            raise
        except CvmError as exc:
            waiting.failure = exc
            parts.undo()
