"""How often somebody may come: by address before any work is done, by chip once its evidence is verified.

Every key (an address, a chip) may come ``burst`` times at once and ``per_minute`` times a minute in the long run (the
generic cell rate algorithm: one time per key says when its account is level again). The accounts of all processes of a
replica are one table in shared memory; a record lock, which the kernel frees with its holder, makes each change whole.
Replicas count apart: three of them let three times as much through.

The table has a fixed size. Where a key's eight places are all taken, the account nearest to level gives way: somebody
with very many addresses can make others' accounts forgotten, which lets more through, never less. A chip counts only
after its signature was verified, so nobody can use up another's account with forged reports.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from attest.broker.errors import TooMany
from policy.claims import SnpClaims, TeeClaims

PLACES = 16384
_PROBES = 8
_ENTRY = struct.Struct("=Qd")


class Limiter:
    """Accounts of one kind of key, called ``what`` in errors. ``per_minute`` 0: no limit. Make it before the fork."""

    def __init__(
        self, what: str, per_minute: int, burst: int | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what = what
        self._cost = 60 / per_minute if per_minute else 0.0
        self._credit = self._cost * max(1, per_minute // 4 if burst is None else burst)
        self._clock = clock
        self._salt = os.urandom(16)
        self._file = os.memfd_create("attest-limits", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        os.ftruncate(self._file, PLACES * _ENTRY.size)
        self._table = mmap.mmap(self._file, PLACES * _ENTRY.size)
        self._threads = threading.Lock()  # a record lock keeps out other processes only

    def check(self, key: bytes) -> None:
        """Count one visit. Raises TooMany with the seconds to wait; such a visit is not counted."""
        if not self._cost:
            return
        name = int.from_bytes(hashlib.blake2b(key, digest_size=8, key=self._salt).digest(), "big") or 1
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                wait = self._visit(name, self._clock())
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)
        if wait > 0:
            raise TooMany(f"too many requests of this {self._what}", code=f"limit.{self._what}", retry=ceil(wait))

    def _visit(self, name: int, now: float) -> float:
        """Seconds to wait; 0 when the visit was counted."""
        place, level = self._account(name, now)
        after = max(level, now) + self._cost
        if after - now > self._credit + 1e-9:
            return after - now - self._credit
        _ENTRY.pack_into(self._table, place, name, after)
        return 0.0

    def _account(self, name: int, now: float) -> tuple[int, float]:
        """The offset of the account and when it is level: its own, else the place whose account is level first."""
        best, best_level = 0, float("inf")
        for probe in range(_PROBES):
            place = (name + probe * 0x9E3779B1) % PLACES * _ENTRY.size
            found, level = _ENTRY.unpack_from(self._table, place)
            if found == name:
                return place, level
            if level < best_level:
                best, best_level = place, level
        return best, now


@dataclass(frozen=True, slots=True)
class Limits:
    """What is bounded: visits of an address or chip and statements of a host a minute, connections that may wait."""

    address: Limiter
    chip: Limiter
    queue: int
    host: Limiter

    @classmethod
    def of(cls, address_per_minute: int, chip_per_minute: int, queue: int, host_per_minute: int = 0) -> Limits:
        """As ``attest.toml`` says; 0 a minute is no limit."""
        return cls(
            Limiter("address", address_per_minute),
            Limiter("chip", chip_per_minute),
            queue,
            Limiter("host", host_per_minute),
        )

    @classmethod
    def none(cls) -> Limits:
        """No limit on visits; a queue that a socket cannot hold."""
        return cls.of(0, 0, 1 << 16)


def machine_of(claims: TeeClaims) -> bytes:
    """What names the machine of verified claims: CHIP_ID, or the PPID of the processor package.

    CHIP_ID is masked with zeros where the host asks for that; all such machines then share one account, and so do a
    provider's under one VLEK.
    """
    return bytes(claims.chip_id) if isinstance(claims, SnpClaims) else claims.pck.ppid
