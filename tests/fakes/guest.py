"""A guest without a machine: evidence from an emulated chip in this process, disks that are only noted down."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from attest.attester.cmdline import DiskOrder, NetOrder, RootOrder
from attest.attester.evidence_json import kbs_evidence
from attest.attester.machine import CheckedDisk, Places, RunningPayload, Unlocked
from attest.attester.raw_evidence import RawEvidence
from attest.attester.rotation import Keyslots
from attest.attester.status import Status
from attest.emulator.chip import Chip, LaunchContext
from attest.emulator.pki import ChipKeys, make_chip
from attest.evidence.chip_port import ReportRequest
from policy.secret import SecretBytes
from policy.vocab import LaunchDigest

DIGEST = LaunchDigest(bytes(range(48)))
LAUNCH = LaunchContext(measurement=DIGEST, policy=0x30000, host_data=b"\x11" * 32, report_id=b"\x22" * 32)


@cache
def chip_keys() -> ChipKeys:
    """One emulated PKI for the whole test run: RSA-4096 takes its time."""
    return make_chip(datetime.now(UTC))


def chip(launch: LaunchContext = LAUNCH) -> Chip:
    """A chip with ``launch`` in it."""
    return Chip(chip_keys(), launch)


class EndedPayload:
    """A payload that is over, or (``None``) never is."""

    def __init__(self, code: int | None) -> None:
        self.code = code

    def wait(self, seconds: float) -> int | None:
        return self.code


class NoKeyslots:
    """The header of a disk whose key nobody replaces."""

    digest = "00" * 32

    def opened_by(self, key: SecretBytes) -> tuple[int, ...]:
        return (0,)

    def add(self, key: SecretBytes, new: SecretBytes) -> None:
        raise AssertionError("nothing to add")

    def keep_only(self, key: SecretBytes) -> None:
        raise AssertionError("nothing to remove")

    def store(self) -> None:
        raise AssertionError("nothing to store")


class FakeMachine:
    """Implements :class:`attest.attester.machine.Machine` and notes what was asked of it."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.keys: dict[str, bytes] = {}
        self.held: list[SecretBytes] = []
        self.exit: int | None = 0
        self.fail: Exception | None = None
        self.bad_header: Exception | None = None
        self.bad_root: Exception | None = None
        self.folder = Path("/nowhere")
        self.clock: float | None = None
        self.asked: frozenset[str] | None = None
        self.discarded: list[str] = []
        self.offered = b""
        self.bound = bytes(32)
        self.extends = True

    def network(self, order: NetOrder) -> str:
        self.done.append(order)
        return "eth0"

    def tee(self, emulated: bool) -> str:
        return "snp"

    def init_data(self) -> bytes:
        return self.offered

    def binding(self, tee: str, emulated: bool) -> bytes:
        return self.bound

    def extend(self, event: bytes, emulated: bool) -> bool:
        self.done.append(("extended", event))
        return self.extends

    def close_door(self, emulated: bool) -> bool:
        self.done.append("door closed")
        return True

    def evidence(self, report_data: bytes, tee: str, emulated: bool) -> RawEvidence:
        self.done.append(f"evidence emulated={emulated}")
        made = chip()
        return RawEvidence(made.report(ReportRequest(report_data)), made.certificates, "test")

    def evidence_json(self, raw: RawEvidence) -> dict[str, object]:
        return kbs_evidence(raw)

    def inspect(self, order: DiskOrder) -> CheckedDisk:
        if self.bad_header is not None:
            raise self.bad_header
        return CheckedDisk(order, Path("/dev/vda"), False, Path("/run/cvm/header") / order.name, "uuid")

    def recognise(self, disk: CheckedDisk, headers: frozenset[str]) -> Keyslots:
        self.asked = headers
        return NoKeyslots()

    def discard(self, disk: CheckedDisk) -> None:
        self.discarded.append(disk.order.name)

    def unlock(self, disk: CheckedDisk, key: SecretBytes) -> Unlocked:
        self.held.append(key)
        if self.fail is not None:
            raise self.fail
        self.keys[disk.order.name] = key.reveal()
        return Unlocked(Path("/run/cvm/disk") / disk.order.name, disk.read_only)

    def secrets_folder(self) -> Path:
        return self.folder

    def set_clock(self, seconds: float) -> None:
        self.clock = seconds

    def serve_exec(
        self, operators: tuple[bytes, ...], credential: Any, root: Path | None, tell: Callable[[str], None]
    ) -> None:
        self.done.append(("exec", operators, root))
        self.credential = credential

    def open_root(self, order: RootOrder) -> Path:
        self.done.append(order)
        if self.bad_root is not None:
            raise self.bad_root
        return Path("/mnt/root")

    def furnish(self, root: Path) -> None:
        self.done.append(("furnished", root, sorted(self.keys)))

    def start(self, run: str, places: Places, output: Callable[[str], None]) -> RunningPayload:
        self.done.append((run, places))
        output("hello\n")
        return EndedPayload(self.exit)


class Recorder:
    """Collects what a :class:`Status` says."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.console = b""
        self.status = Status(self.lines.append, self._say, lambda: 1.5)

    def _say(self, data: bytes) -> None:
        self.console += data

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @property
    def names(self) -> list[str]:
        return [event["event"] for event in self.events]
