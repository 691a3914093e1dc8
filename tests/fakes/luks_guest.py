"""A guest whose disk is a real LUKS2 container in a file, booting against a service in the same process.

Everything of the agent runs but device-mapper and mounting: that a key opens the disk is what cryptsetup says of the
header the agent recognised. A :class:`Killer` ends the process, service and all, at the n-th thing it does.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from attest.attester import disk
from attest.attester.agent import Agent
from attest.attester.cmdline import DiskOrder, Orders, ServiceAddress
from attest.attester.header_file import HeaderFile, run_cryptsetup
from attest.attester.https import Answer
from attest.attester.kbs import DISK_REPORT
from attest.attester.machine import CheckedDisk, Unlocked
from attest.attester.raw_evidence import RawEvidence
from attest.attester.session import Pace
from policy.secret import SecretBytes
from tests.fakes.guest import FakeMachine, Recorder
from tests.fakes.service_world import GOOD, PATH, PKI, ServiceWorld, evidence

FORMAT = (
    "--type", "luks2", "--cipher", "aes-xts-plain64", "--key-size", "512", "--hash", "sha256", "--pbkdf", "pbkdf2",
    "--pbkdf-force-iterations", "1000", "--sector-size", "4096", "--offset", "32768",
)  # fmt: skip
ORDER = DiskOrder("root", PATH)


def make_disk(image: Path, key: bytes) -> Path:
    """A LUKS2 container of the profile."""
    with image.open("wb") as file:
        file.truncate(17 << 20)
    command = ["cryptsetup", "luksFormat", "--batch-mode", "--key-file", "-", *FORMAT, str(image)]
    subprocess.run(command, input=key, check=True, capture_output=True)
    return image


def opens(image: Path, key: bytes) -> bool:
    """Whether ``key`` opens the disk, as cryptsetup reads it from the disk itself."""
    command = ["cryptsetup", "open", "--type", "luks2", "--test-passphrase", "--key-file", "-", str(image)]
    return subprocess.run(command, input=key, check=False, capture_output=True).returncode == 0


class LuksMachine(FakeMachine):
    """``image`` is the disk, ``memory`` a folder that a reboot empties."""

    def __init__(self, image: Path, memory: Path, *, read_only: bool = False) -> None:
        super().__init__()
        self.image = image
        self.memory = memory
        self.read_only = read_only

    def inspect(self, order: DiskOrder) -> CheckedDisk:
        uuid, copy = disk.checked_copy(self.image, order.name, self.memory)
        return CheckedDisk(order, self.image, self.read_only, copy, uuid)

    def recognise(self, checked: CheckedDisk, headers: frozenset[str]) -> HeaderFile:
        self.asked = headers
        return disk.recognised(checked.node, checked.order.name, checked.header, headers)

    def unlock(self, checked: CheckedDisk, key: SecretBytes) -> Unlocked:
        device = disk.BlockDevice(self.image, self.read_only)
        words = disk.open_words(device, checked.header, checked.order.name, len(key))
        run_cryptsetup("root", *words[:-1], "--test-passphrase", stdin=key.reveal())
        self.keys[checked.order.name] = key.reveal()
        return Unlocked(Path("/nowhere"), self.read_only)

    def discard(self, checked: CheckedDisk) -> None:
        checked.header.unlink(missing_ok=True)

    def evidence(self, report_data: bytes, tee: str, emulated: bool) -> RawEvidence:
        self.report_data = report_data
        return RawEvidence(PKI.with_(report={"measurement": GOOD, "report_data": report_data}).raw, b"", "test")

    def evidence_json(self, raw: RawEvidence) -> dict[str, object]:
        return evidence(self.report_data)


class InProcess:
    """The agent's transport, straight into the guests' application."""

    def __init__(self, world: ServiceWorld) -> None:
        self.client = world.guest_app().test_client(use_cookies=False)
        self.reports: list[Any] = []

    def send(
        self, method: str, path: str, body: bytes | None, cookie: str | None, challenge: str | None = None
    ) -> Answer:
        headers = {} if cookie is None else {"Cookie": cookie}
        found = self.client.open(path, method=method, data=body, headers=headers, base_url="https://kbs.test")
        if path.startswith(DISK_REPORT):
            self.reports.append((found.status_code, found.get_json()))
        cookies = found.headers.get_all("Set-Cookie")
        return Answer(found.status_code, found.get_data(), cookies[0].split(";")[0] if cookies else None)


def boot(world: ServiceWorld, machine: LuksMachine, transport: InProcess | None = None) -> Recorder:
    """The agent's work from the command line to the open disk."""
    recorder, wire = Recorder(), transport or InProcess(world)
    orders = Orders(service=ServiceAddress("kbs.test", 443), ca=b"ca", disks=(ORDER,))
    Agent(orders, machine, recorder.status, connect=lambda address, ca: wire, pace=Pace(patience=0)).work()
    return recorder


class Killer:
    """Counts what a guest does, and kills the process at number ``wanted``: before it, after it, or in its middle."""

    def __init__(self, wanted: int = -1, when: str = "before") -> None:
        self.wanted = wanted
        self.when = when
        self.done: list[str] = []

    @contextmanager
    def watching(self, transport: InProcess) -> Iterator[None]:
        """While in here."""
        with (
            mock.patch("attest.attester.header_file.os.pwrite", self._pwrite(os.pwrite)),
            mock.patch("attest.attester.header_file.os.fsync", self._around("fsync", os.fsync)),
            mock.patch("attest.attester.header_file.run_cryptsetup", self._around("cryptsetup", run_cryptsetup)),
            mock.patch.object(transport, "send", self._around("send", transport.send)),
        ):
            yield

    def _around(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*words: Any, **more: Any) -> Any:
            number = self._count(name)
            found = act(*words, **more)
            self._end(number, "after")
            return found

        return watched

    def _pwrite(self, act: Callable[..., int]) -> Callable[..., int]:
        def watched(descriptor: int, data: bytes, offset: int) -> int:
            number = self._count("pwrite")
            if number == self.wanted and self.when == "middle":
                act(descriptor, data[: len(data) // 2 + 100], offset)
                os.kill(os.getpid(), signal.SIGKILL)
            return act(descriptor, data, offset)

        return watched

    def _count(self, name: str) -> int:
        self.done.append(name)
        self._end(len(self.done) - 1, "before")
        return len(self.done) - 1

    def _end(self, number: int, when: str) -> None:
        if number == self.wanted and when == self.when:
            os.kill(os.getpid(), signal.SIGKILL)


def killed_boot(folder: Path, killer: Killer) -> bool:
    """Boot in a process of its own and kill it; true if it was killed."""
    child = os.fork()
    if not child:
        try:
            world = ServiceWorld(folder / "service", again=True)
            transport = InProcess(world)
            with killer.watching(transport):
                boot(world, LuksMachine(folder / "disk", folder / "memory"), transport)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
