"""Use case *report*: bring signed statements about launches to the service they belong to.

Run as a program it is the process that a launch starts beside itself: it sends what waits, tries for two minutes and
gives up; the next launch, the next end or `cvm ledger --send` goes on where it stopped.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlsplit

from launcher.io import clock
from launcher.io.hashing import read_file
from launcher.io.key_service import ServiceRefused
from launcher.io.outbox import Acknowledged, Outgoing, acknowledge, alone, waiting
from launcher.io.service_words import tell_launch
from launcher.service.vm_file import one_certificate
from policy.errors import CvmError
from policy.named import NamedTuple

PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 50.0)
"""Seconds between tries of the process in the background."""
TRY_SECONDS = 10.0
LOCK_SECONDS = 30.0
Tell = Callable[[str, bytes, dict[str, object], float], int]


class Destination(NamedTuple):
    """A service and the DER of the one authority its certificate must chain to."""

    service: str
    ca: bytes


def destination(url: str, ca: str | None) -> Destination | None:
    """Where statements without a service of their own go, by an https URL and a PEM file; ``None`` for no URL.

    Raises ServiceRefused, VmConfigInvalid, FileUnreadable.
    """
    if not url and ca is None:
        return None
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/") or parts.query or ca is None:
        raise ServiceRefused(f"--send {url[:80]!r}: want https://host:port and --ca PEM", code="service.url")
    return Destination(url.rstrip("/"), one_certificate(read_file(ca, "CA certificate", 1 << 16), ca))


class Left(NamedTuple):
    """A statement that still waits, and why."""

    statement: Outgoing
    error: CvmError


class Report(NamedTuple):
    """What one try came to."""

    sent: tuple[Acknowledged, ...]
    left: tuple[Left, ...]


def send_waiting(to: Destination | None = None, tell: Tell = tell_launch) -> Report:
    """Send everything that waits to the service of its VM file; what has none goes ``to``, if that is given.

    A service that cannot be reached or does not know this host is not asked again for the rest. Raises StateUnusable,
    WrongState while another process sends.
    """
    sent: list[Acknowledged] = []
    left: list[Left] = []
    given_up: dict[str, CvmError] = {}
    with alone(LOCK_SECONDS):
        for item in waiting():
            place = _place(item, to)
            try:
                if place is None:
                    raise ServiceRefused(f"{item.vm}: its VM file names no service", code="service.none", hint=_HINT)
                if place.service in given_up:
                    raise given_up[place.service]
                sent.append(send_one(item, place, TRY_SECONDS, tell))
            except CvmError as exc:
                left.append(Left(item, exc))
                if place is not None and not _is_about_one(exc):
                    given_up[place.service] = exc
    return Report(tuple(sent), tuple(left))


_HINT = "cvm ledger --send URL --ca PEM"


def send_one(item: Outgoing, place: Destination, seconds: float, tell: Tell = tell_launch) -> Acknowledged:
    """Send one statement and remember its acknowledgement. Raises ServiceUnavailable, ServiceRefused."""
    record = tell(place.service, place.ca, item.envelope, seconds)
    now = clock.now()
    found = Acknowledged(now, item.vm, item.sha256, place.service, record)
    acknowledge(item, found)
    return found


def try_for_a_while(
    send: Callable[[], Report] = send_waiting,
    pauses: Sequence[float] = PAUSES,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Send until nothing waits that another try could help; the last report."""
    report = send()
    for seconds in pauses:
        if not any(_worth_a_retry(item.error) for item in report.left):
            break
        sleep(seconds)
        report = send()
    return report


def _place(item: Outgoing, to: Destination | None) -> Destination | None:
    if item.service is None or item.ca is None:
        return to if to is not None and item.service in (None, to.service) else None
    return Destination(item.service, item.ca)


def _is_about_one(exc: CvmError) -> bool:
    """Whether the next statement may fare better with the same service."""
    return exc.code in ("service.none", "service.launch-refused")


def _worth_a_retry(exc: CvmError) -> bool:
    return exc.code == "service.unavailable"


def _failures(report: Report) -> Iterator[str]:
    return (f"{item.statement.vm}: {item.error.message}" for item in report.left)


def main() -> int:
    """``python -m launcher.service.reporting``: 0 when nothing waits any more, else 1."""
    try:
        report = try_for_a_while()
    except CvmError as exc:
        sys.stderr.write(f"{exc.message}\n")
        return 1
    sys.stderr.write("".join(f"{line}\n" for line in _failures(report)))
    return 1 if report.left else 0


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
