"""Group commit: audit records of many threads, flushed to stable storage together.

One flush costs as much for a hundred records as for one. The first thread that comes becomes the leader and writes for
all that wait meanwhile; everybody returns when their own record is durable, never before. A batch that fails fails for
everybody in it: nothing of it was acknowledged.
"""

from __future__ import annotations

import threading
from collections import deque

from attest.store import records
from attest.store.engine import Database
from attest.store.errors import StoreUnavailable
from attest.store.records import Draft

MOST = 512
"""Records in one transaction, so that no thread waits for an endless one."""


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

    def append(self, draft: Draft) -> int:
        """The number of the durable record. Raises StoreUnavailable, and whatever ``draft.build`` raises."""
        mine = _Waiting(draft)
        with self._lock:
            self._waiting.append(mine)
            leader, self._led = not self._led, True
        if not leader:
            mine.turn.acquire()
        if not mine.seq and mine.failure is None:
            self._lead()
        if mine.failure is not None:
            raise mine.failure
        return mine.seq

    def _lead(self) -> None:
        """Write what waits, this thread's own record among it, then let the next in line lead."""
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
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
            self._hand_over(batch)

    def _hand_over(self, batch: list[_Waiting]) -> None:
        with self._lock:
            successor = self._waiting[0] if self._waiting else None
            self._led = successor is not None
        for item in batch[1:]:
            item.turn.release()
        if successor is not None:
            successor.turn.release()
