"""The guest as the agent uses it: what touches the machine, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from attest.attester.cmdline import DiskOrder, NetOrder, RootOrder
from attest.attester.exec_session import Credential
from attest.attester.raw_evidence import RawEvidence
from attest.attester.rotation import Keyslots
from policy.secret import SecretBytes


class CheckedDisk(NamedTuple):
    """A disk whose header is of the profile. ``header`` is a file in memory with the copy that was checked."""

    order: DiskOrder
    node: Path
    read_only: bool
    header: Path
    header_uuid: str


class Unlocked(NamedTuple):
    """A disk that is open and mounted."""

    mounted: Path
    read_only: bool


class Places(NamedTuple):
    """Where a payload finds things: the ``root`` file system it runs in, if there is one, and the first ``disk``."""

    root: Path | None
    disk: Path | None


class RunningPayload(Protocol):
    """See :class:`attest.attester.payload.Payload`."""

    def wait(self, seconds: float) -> int | None:
        """Exit status, or ``None`` while it runs on."""


class Machine(Protocol):
    """The guest as the agent uses it. Every method raises CvmError."""

    def network(self, order: NetOrder) -> str:
        """Set the interface up; its name."""

    def tee(self, emulated: bool) -> str:
        """The TEE this guest runs in: ``snp`` or ``tdx``."""

    def evidence(self, report_data: bytes, tee: str, emulated: bool) -> RawEvidence:
        """A report or quote over ``report_data``."""

    def evidence_json(self, raw: RawEvidence) -> dict[str, object]:
        """The protocol's form of ``raw``; refuses a report that does not parse."""

    def init_data(self) -> bytes:
        """The text the host offers, not looked at."""

    def binding(self, tee: str, emulated: bool) -> bytes:
        """HOST_DATA or MRCONFIGID of this launch, by a way the host has no word in."""

    def extend(self, event: bytes, emulated: bool) -> bool:
        """Of a TD: extend RTMR3 by the SHA-384 of ``event``; false where the kernel offers no way."""

    def close_door(self, emulated: bool) -> bool:
        """Of a TD: extend RTMR3 now that the keys are here; false where the kernel offers no way."""

    def inspect(self, order: DiskOrder) -> CheckedDisk:
        """Find the disk and check its header; nothing is opened."""

    def recognise(self, disk: CheckedDisk, headers: frozenset[str]) -> Keyslots:
        """The disk's header, if it is one of those the service knows; without any, if it is whole and simple."""

    def unlock(self, disk: CheckedDisk, key: SecretBytes) -> Unlocked:
        """Open with the header that was recognised, and mount."""

    def discard(self, disk: CheckedDisk) -> None:
        """Remove the header's file in memory."""

    def serve_exec(
        self, operators: tuple[bytes, ...], credential: Credential, root: Path | None, tell: Callable[[str], None]
    ) -> None:
        """Let these operators run commands from now on, inside ``root`` where there is one."""

    def open_root(self, order: RootOrder) -> Path:
        """Open, check and mount the root file system."""

    def furnish(self, root: Path) -> None:
        """Mount in it what programs expect; after disks and secrets, which they shall find there."""

    def start(self, run: str, places: Places, output: Callable[[str], None]) -> RunningPayload:
        """Start the payload."""

    def secrets_folder(self) -> Path:
        """A place in memory for secret files."""

    def set_clock(self, seconds: float) -> None:
        """Set the clock to Unix time ``seconds``; raises OSError."""
