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
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from attest.store import records
from attest.store.engine import Database
from attest.store.errors import StoreUnavailable
from attest.store.records import Draft
from policy.errors import CvmError

MOST = 512
"""Parts of one transaction, so that no thread waits for an endless one."""
_PATIENCE, _LONGEST = 0.5, 0.002
"""How long a leader waits for those who wrote before: a part of the last batch's time, at most so many seconds."""
T = TypeVar("T")
Job = Callable[[Connection], T]


class _Waiting(Generic[T]):
    """One part on its way. ``turn`` is released when it is written, failed, or its thread shall lead; its thread then
    wakes the one ``behind``. ``left``: its thread waits no more, because a signal interrupted it.
    """

    __slots__ = ("behind", "called", "done", "failure", "found", "item", "lasting", "left", "turn")

    def __init__(self, item: T, *, lasting: bool) -> None:
        self.item, self.lasting = item, lasting
        self.found: Any = None
        self.failure: Exception | None = None
        self.behind: _Waiting[T] | None = None
        self.called = self.done = self.left = False
        self.turn = threading.Lock()
        self.turn.acquire()

    def wake_behind(self) -> None:
        """Once."""
        behind, self.behind = self.behind, None
        if behind is not None:
            behind.turn.release()


class _Group(Generic[T]):
    """Threads that write to one database in turns; :meth:`_write` writes a batch in one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting[T]] = deque()
        self._led = False
        self._there = threading.Event()
        self._expected = 0
        self._spent = 0.0

    def _write(self, tx: Connection, batch: Sequence[_Waiting[T]]) -> None:
        """Set what each part gave: ``found`` or ``failure``. Raising fails the whole batch."""
        raise NotImplementedError

    def _submit(self, item: T, *, lasting: bool = True) -> Any:
        """What became of ``item``, durably where it has to last."""
        mine = _Waiting(item, lasting=lasting)
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
        return mine.found

    def _queue(self, mine: _Waiting[T]) -> bool:
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

    def _lead(self, mine: _Waiting[T]) -> None:
        """Write what waits, this thread's own part among it, then let the next in line lead."""
        batch: list[_Waiting[T]] = []
        start = time.monotonic()
        try:
            batch = self._gather()
            start = time.monotonic()
            with self._database.write(lasting=any(part.lasting for part in batch)) as tx:
                self._write(tx, batch)
        except BaseException as exc:
            interrupted = StoreUnavailable("audit record not written: the writer was interrupted")
            for item in batch:
                item.failure = exc if isinstance(exc, Exception) else interrupted
            if not isinstance(exc, Exception):
                raise
        finally:
            self._spent = time.monotonic() - start
            self._hand_over(batch, mine)

    def _gather(self) -> list[_Waiting[T]]:
        """Those who wait, when all who are expected do or patience has ended."""
        with self._lock:
            if len(self._waiting) < self._expected:
                self._there.clear()
        if not self._there.is_set():
            self._there.wait(min(_PATIENCE * self._spent, _LONGEST))
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]

    def _hand_over(self, batch: Sequence[_Waiting[T]], mine: _Waiting[T]) -> None:
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


class GroupCommit(_Group[Draft]):
    """Appends records that need no other statement in their transaction."""

    def append(self, draft: Draft) -> int:
        """The number of the durable record. Raises StoreUnavailable, and whatever ``draft.build`` raises."""
        number: int = self._submit(draft)
        return number

    def _write(self, tx: Connection, batch: Sequence[_Waiting[Draft]]) -> None:
        numbers = records.append_all(tx, [waiting.item for waiting in batch])
        for waiting, number in zip(batch, numbers, strict=True):
            waiting.found = number


class GroupWrites(_Group[Job[Any]]):
    """Runs what threads have to do in the database one after the other, several of them in one transaction."""

    def run(self, job: Job[T], *, lasting: bool = True) -> T:
        """What ``job`` returns, once all it wrote is durable; ``lasting=False``: once it is written
        (:meth:`Database.write`).

        An error of ours that ``job`` raises undoes what it wrote and is raised; others go on. Any other error may have
        left the transaction unusable: it undoes all of the batch. ``job`` may run in another thread than the caller's.
        Raises StoreUnavailable where the transaction failed.
        """
        found: T = self._submit(job, lasting=lasting)
        return found

    def _write(self, tx: Connection, batch: Sequence[_Waiting[Job[Any]]]) -> None:
        if len(batch) == 1:  # whoever is alone has the transaction
            batch[0].found = batch[0].item(tx)
            return
        for waiting in batch:
            try:
                with tx.begin_nested():
                    waiting.found = waiting.item(tx)
            except StoreUnavailable:
                raise
            except CvmError as exc:
                waiting.failure = exc
