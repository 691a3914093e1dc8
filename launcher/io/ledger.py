"""The launch ledger of one VM: a file of JSON lines that is only ever appended to, one line per launch and per end.

Every line carries the SHA-256 of the line before it, so a line taken out of the middle or changed is noticed. Lines cut
off at the end are not: whoever needs that reads the attestation service's audit log, which the host cannot touch.
"""

from __future__ import annotations

import os

from launcher.core.names import LEDGER
from launcher.errors import StateUnusable
from launcher.io.statedir import VmDir
from policy.errors import MalformedInput
from policy.late import small_sha256
from policy.named import NamedTuple
from policy.plain_json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA = "cvm.ledger/1"
FIRST = "0" * 64
MAX_LINE = 1 << 16
MAX_LEDGER = 32 << 20
"""Bytes; some 30 000 launches. Then a launch is refused until the VM is forgotten: a ledger that stops is none."""


REVERT = "snapshot-revert"
_REVERTED = f'"event":"{REVERT}"'.encode()
"""As :func:`append` writes it; no text in a line can hold it, for there a quote is escaped."""


class LedgerBroken(MalformedInput):
    """A line that is not this program's, or a chain that does not hold."""

    code = "ledger.broken"
    exit_status = 8


class Ledger(NamedTuple):
    """Entries in order. ``head``: SHA-256 of the last line, hexadecimal."""

    entries: tuple[dict[str, Any], ...]
    head: str


def append(vm: VmDir, entry: dict[str, object]) -> None:
    """Add one entry, on disk before this returns. A line that a crash cut short is closed first and counts as broken
    when read. Raises :class:`StateUnusable`; call with the VM's lock held.
    """
    path = vm.file(LEDGER)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size > MAX_LEDGER:
                raise StateUnusable(f"{path}: {size} bytes, want at most {MAX_LEDGER}", hint="cvm stop --forget")
            start = max(0, size - MAX_LINE)
            last = os.pread(descriptor, size - start, start).removesuffix(b"\n").rpartition(b"\n")[2]
            line = _line(entry, _digest(last) if size else FIRST)
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, size)
                raise StateUnusable(f"{path}: no room for another line")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise StateUnusable(f"{path}: {exc.strerror}") from None


def read_ledger(vm: VmDir) -> Ledger:
    """Every entry, the chain checked. Raises :class:`LedgerBroken`."""
    try:
        with open(vm.file(LEDGER), "rb") as file:  # noqa: PTH123  pathlib costs start-up time
            data = file.read(MAX_LEDGER + 2 * MAX_LINE)
    except FileNotFoundError:
        return Ledger((), FIRST)
    except OSError as exc:
        raise StateUnusable(f"{vm.file(LEDGER)}: {exc.strerror}") from None
    return parse_ledger(data)


def epoch(vm: VmDir) -> int:
    """How often this VM went back to a snapshot since its ledger began. A line that a crash cut short hides none."""
    try:
        with open(vm.file(LEDGER), "rb") as file:  # noqa: PTH123  pathlib costs start-up time
            return file.read(MAX_LEDGER + 2 * MAX_LINE).count(_REVERTED)
    except FileNotFoundError:
        return 0
    except OSError as exc:
        raise StateUnusable(f"{vm.file(LEDGER)}: {exc.strerror}") from None


def parse_ledger(data: bytes) -> Ledger:
    """The lines of a ledger. Raises :class:`LedgerBroken` naming the first line that does not fit."""
    from policy.strictjson import strict_json  # writing, as every launch does, needs no reader

    entries: list[dict[str, Any]] = []
    head = FIRST
    lines = data.split(b"\n")
    if lines.pop():
        raise LedgerBroken(f"ledger: line {len(lines) + 1}: cut short")
    for number, line in enumerate(lines, 1):
        entry = strict_json(line, f"ledger: line {number}", max_bytes=MAX_LINE, error=LedgerBroken)
        if not isinstance(entry, dict) or entry.get("schema") != SCHEMA:
            raise LedgerBroken(f"ledger: line {number}: no entry of {SCHEMA}")
        if entry.get("previous") != head:
            raise LedgerBroken(
                f"ledger: line {number}: does not follow line {number - 1}: a line was changed or removed"
            )
        entries.append(entry)
        head = _digest(line)
    return Ledger(tuple(entries), head)


def _line(entry: dict[str, object], previous: str) -> bytes:
    line = dumps({"schema": SCHEMA, "previous": previous, **entry}).encode("ascii")
    if len(line) >= MAX_LINE:
        raise StateUnusable(f"ledger: an entry of {len(line)} bytes, want at most {MAX_LINE}")
    return line + b"\n"


def _digest(line: bytes) -> str:
    return small_sha256(line).hexdigest()
