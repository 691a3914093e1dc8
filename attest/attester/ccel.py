"""The event log of a TD's firmware and kernel: data of the ACPI table CCEL. Source: UEFI 2.10, section 38."""

from __future__ import annotations

import hashlib
from pathlib import Path

from attest.attester.errors import EvidenceUnavailable
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.event_types import EV_RUNTIME, HASHES
from attest.evidence.eventlog import CCEL as CCEL_KIND
from attest.evidence.eventlog import parse_event_log
from attest.evidence.eventlog_build import NewEvent, event_bytes

CCEL = Path("/sys/firmware/acpi/tables/data/CCEL")
MAX_EVENT_LOG = 4 << 20
_RTMR3 = 4
"""Its number in a CCEL."""


def event_log(path: Path = CCEL) -> bytes:
    """The whole log area; empty for firmware without one, which is nobody's failure. Raises EvidenceUnavailable."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_EVENT_LOG + 1)
    except FileNotFoundError:
        return b""
    except OSError as exc:
        raise EvidenceUnavailable(f"event log: {path}: {exc.strerror}") from None


def with_event(log: bytes, data: bytes) -> bytes:
    """``log`` and an entry for RTMR3, which was extended by the SHA-384 of ``data``: the kernel writes none. A TD
    without a log still has none. Raises EvidenceUnavailable for a log that does not parse.
    """
    if not log:
        return log
    try:
        parsed = parse_event_log(log, CCEL_KIND)
        digests = tuple((number, hashlib.new(HASHES[number], data).digest()) for number in parsed.algorithms)
    except (EvidenceMalformed, KeyError) as exc:
        raise EvidenceUnavailable(f"event log: {exc}") from None
    return parsed.raw + event_bytes(NewEvent(_RTMR3, EV_RUNTIME, digests, data))
