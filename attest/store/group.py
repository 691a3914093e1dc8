"""Group commit: audit records of many threads, flushed to stable storage together.

One flush costs as much for a hundred records as for one. The first thread that comes becomes the leader and writes for
all that wait meanwhile; everybody returns when their own record is durable, never before. A batch that fails fails for
everybody in it: nothing of it was acknowledged.

Writers come back as soon as their batch is written. A leader that did not wait for them would write half of them at a
time, so it waits for as many as there were, but never longer than a part of what the last batch took.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from attest.store import records
from attest.store.engine import Database
from attest.store.errors import StoreUnavailable
from attest.store.records import Draft

MOST = 512
"""Records in one transaction, so that no thread waits for an endless one."""
_PATIENCE, _LONGEST = 0.5, 0.002
"""How long a leader waits for those who wrote before: a part of the last batch's time, at most so many seconds."""


class _Waiting:
    """One record on its way. ``turn`` is released when it is written, failed, or its thread shall lead."""

    __slots__ = ("draft", "failure", "seq", "turn")

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.seq = 0
        self.failure: Exception | None = None
        self.turn = threading.Lock()
        self.turn.acquire()


class GroupCommit:
    """Appends to one database. For records that need no other statement in their transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._led = False
        self._there = threading.Event()
        self._expected = 0
        self._spent = 0.0

    def append(self, draft: Draft) -> int:
        """The number of the durable record. Raises StoreUnavailable, and whatever ``draft.build`` raises."""
        mine = _Waiting(draft)
        with self._lock:
            self._waiting.append(mine)
            leader, self._led = not self._led, True
            if len(self._waiting) >= self._expected:
                self._there.set()
        if not leader:
            mine.turn.acquire()
        if not mine.seq and mine.failure is None:
            self._lead()
        if mine.failure is not None:
            raise mine.failure
        return mine.seq

    def _lead(self) -> None:
        """Write what waits, this thread's own record among it, then let the next in line lead."""
        batch, start = self._gather(), time.monotonic()
        try:
            with self._database.write() as tx:
                numbers = records.append_all(tx, [item.draft for item in batch])
            for item, seq in zip(batch, numbers, strict=True):
                item.seq = seq
        except BaseException as exc:
            interrupted = StoreUnavailable("audit record not written: the writer was interrupted")
            for item in batch:
                item.failure = exc if isinstance(exc, Exception) else interrupted
            if not isinstance(exc, Exception):
                raise
        finally:
            self._spent = time.monotonic() - start
            self._hand_over(batch)

    def _gather(self) -> list[_Waiting]:
        """Those who wait, when all who are expected do or patience has ended."""
        with self._lock:
            if len(self._waiting) < self._expected:
                self._there.clear()
        if not self._there.is_set():
            self._there.wait(min(_PATIENCE * self._spent, _LONGEST))
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]

    def _hand_over(self, batch: list[_Waiting]) -> None:
        with self._lock:
            successor = self._waiting[0] if self._waiting else None
            self._led = successor is not None
            self._expected = min(MOST, len(batch) + len(self._waiting))
        for item in batch[1:]:
            item.turn.release()
        if successor is not None:
            successor.turn.release()
