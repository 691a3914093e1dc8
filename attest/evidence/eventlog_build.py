"""Write an event log: the inverse of :mod:`attest.evidence.eventlog`, for the emulated TD and for tests.

The emulated TD turns the log of a TPM, which real firmware wrote, into the CCEL that firmware of a TD would have made.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from attest.evidence.event_types import ALGORITHMS, EV_NO_ACTION, SHA384
from attest.evidence.eventlog import CCEL

_INDEX_OF_PCR = {0: 0, 1: 1, 7: 1, **dict.fromkeys(range(2, 7), 2), **dict.fromkeys(range(8, 16), 3)}


class NewEvent(NamedTuple):
    """One entry to write: ``mr`` as logged, ``digests`` as (algorithm, digest)."""

    mr: int
    type: int
    digests: tuple[tuple[int, bytes], ...]
    data: bytes


def build_event_log(
    events: Iterable[NewEvent], *, kind: str = CCEL, algorithms: Sequence[int] = (SHA384,), size: int = 0
) -> bytes:
    """The log, filled up with 0xFF to ``size`` bytes where it is shorter (edk2 gives a CCEL 64 KiB)."""
    listed = b"".join(struct.pack("<HH", number, ALGORITHMS[number][1]) for number in algorithms)
    spec = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(algorithms)) + listed + b"\0"
    parts = [struct.pack("<II20xI", kind == CCEL, EV_NO_ACTION, len(spec)), spec]
    parts += map(event_bytes, events)
    return b"".join(parts).ljust(size, b"\xff")


def event_bytes(event: NewEvent) -> bytes:
    """One entry as it stands in a log."""
    digests = b"".join(struct.pack("<H", number) + digest for number, digest in event.digests)
    head = struct.pack("<III", event.mr, event.type, len(event.digests))
    return head + digests + struct.pack("<I", len(event.data)) + event.data


def ccel_index(pcr: int) -> int:
    """Where firmware of a TD logs what a PC measures into ``pcr``: index 0 is MRTD, n + 1 is RTMR n.

    ``KeyError`` for PCRs above 15, which have no RTMR. Source: UEFI 2.10, section 38.4.1, table "TDX".
    """
    return _INDEX_OF_PCR[pcr]
