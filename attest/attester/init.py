"""PID 1 of the measured initrd, after ``/init`` mounted the kernel's file systems and loaded the modules.

Called as ``python3 -m attest.attester.init``. Takes its orders from ``/proc/cmdline`` alone, does them, and then either
powers the machine off or stays as the init that waits for its children. Whatever goes wrong is said on the console
and on the status port; then the machine powers off, because a guest without its disk is of no use and PID 1 must not
return.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from attest.attester import disk, kernel
from attest.attester.agent import Agent, settle
from attest.attester.cmdline import DiskOrder, NetOrder, RootOrder, parse_orders
from attest.attester.evidence_json import kbs_evidence
from attest.attester.exec_server import ExecServer, Port
from attest.attester.exec_session import Credential
from attest.attester.header_file import HeaderFile
from attest.attester.init_data import offered
from attest.attester.machine import CheckedDisk, Places, RunningPayload, Unlocked
from attest.attester.ports import wait_for_port, write_all
from attest.attester.power_button import PowerButton
from attest.attester.raw_evidence import RawEvidence
from attest.attester.rtmr import close_door, extend_rtmr3
from attest.attester.sources import emulated, first_present, hardware, own_binding, tee_here
from attest.attester.status import PORT_NAME, Status
from policy.errors import CvmError
from policy.exec_channel import PORT_NAME as EXEC_PORT
from policy.secret import SecretBytes

CMDLINE = Path("/proc/cmdline")
SETTLE_SECONDS = 3.0
SUPERVISE_SECONDS = 1.0
STOP_SECONDS = 10.0
# The host reads the status port and the console at its own pace; power-off throws away what it has not read.
DRAIN_SECONDS = 0.3


class Guest:
    """The real machine; see :class:`attest.attester.machine.Machine`."""

    exec_pid = 0
    """The process that serves ``cvm exec``; 0 without one."""

    def network(self, order: NetOrder) -> str:
        """Static address through ioctl."""
        from attest.attester.network import set_up

        return set_up(order)

    def tee(self, emulated_chip: bool) -> str:
        """By the emulated chip's port, or by the kernel's device."""
        return tee_here(emulated_chip=emulated_chip)

    def evidence(self, report_data: bytes, tee: str, emulated_chip: bool) -> RawEvidence:
        """From the kernel, or from the emulated chip when the command line says so."""
        return first_present(emulated(tee) if emulated_chip else hardware(tee), report_data)

    def evidence_json(self, raw: RawEvidence) -> dict[str, object]:
        """KBS evidence of the TEE's own form."""
        return kbs_evidence(raw)

    def init_data(self) -> bytes:
        """From QEMU's firmware configuration."""
        return offered()

    def binding(self, tee: str, emulated_chip: bool) -> bytes:
        """From this guest's own report, or from the TDX module."""
        return own_binding(tee, emulated_chip=emulated_chip)

    def extend(self, event: bytes, emulated_chip: bool) -> bool:
        """Through the kernel, or the emulated chip's port."""
        return extend_rtmr3(hashlib.sha384(event).digest(), emulated_chip=emulated_chip)

    def close_door(self, emulated_chip: bool) -> bool:
        """Through the kernel, or the emulated chip's port."""
        return close_door(emulated_chip=emulated_chip)

    def inspect(self, order: DiskOrder) -> CheckedDisk:
        """The header is copied into memory and the copy checked."""
        device = disk.find_disk(order.name)
        uuid, copy = disk.checked_copy(device.node, order.name)
        return CheckedDisk(order, device.node, device.read_only, copy, uuid)

    def recognise(self, checked: CheckedDisk, headers: frozenset[str]) -> HeaderFile:
        """By its digest."""
        return disk.recognised(checked.node, checked.order.name, checked.header, headers)

    def unlock(self, checked: CheckedDisk, key: SecretBytes) -> Unlocked:
        """cryptsetup with the recognised copy, mount."""
        name, read_only = checked.order.name, checked.read_only
        mapped = disk.open_disk(disk.BlockDevice(checked.node, read_only), checked.header, name, key)
        return Unlocked(disk.mount_disk(mapped, name, read_only=read_only), read_only)

    def discard(self, checked: CheckedDisk) -> None:
        """It is a file of the root file system, in memory."""
        checked.header.unlink(missing_ok=True)

    def secrets_folder(self) -> Path:
        """A tmpfs of their own."""
        from attest.attester.secret_files import mount_folder

        return mount_folder()

    def set_clock(self, seconds: float) -> None:
        """The kernel's; the host's clock chip is left alone."""
        time.clock_settime(time.CLOCK_REALTIME, seconds)

    def serve_exec(
        self, operators: tuple[bytes, ...], credential: Credential, root: Path | None, tell: Callable[[str], None]
    ) -> None:
        """In a child process: its commands' children are not PID 1's business, nor its crash PID 1's end."""
        node = wait_for_port(EXEC_PORT, seconds=3)
        if node is None:
            tell("exec: no port: the launcher gave this machine none")
            return
        child = os.fork()
        if child:
            self.exec_pid = child
            return
        try:
            descriptor = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            ExecServer(Port(descriptor), operators, credential, tell, root).serve()
        except Exception as exc:  # noqa: BLE001  a child must never return into PID 1's work
            tell(f"exec: ended by a bug: {type(exc).__name__}: {exc}")
        finally:
            os._exit(1)

    def open_root(self, order: RootOrder) -> Path:
        """dm-verity and squashfs."""
        from attest.attester.root_disk import open_root

        return open_root(order)

    def furnish(self, root: Path) -> None:
        """The kernel's file systems, disks and secrets."""
        from attest.attester.root_disk import furnish

        furnish(root)

    def start(self, run: str, places: Places, output: Callable[[str], None]) -> RunningPayload:
        """The payload in the root file system, else from the first disk."""
        from attest.attester.payload import Payload, command

        return Payload(command(run, places.root, places.disk), places.disk, output)


def open_status() -> Status:
    """Port (when the launcher gave one) and console."""
    node = wait_for_port(PORT_NAME, seconds=3)
    fd = os.open(node, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC) if node is not None else -1
    return Status(
        (lambda data: write_all(fd, data)) if fd >= 0 else None,
        lambda data: write_all(1, data),
        lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    )


def run(status: Status) -> None:
    """Read the orders and carry them out; returns when the machine should power off."""
    status.event("booted", "agent started", kernel=os.uname().release, python=sys.version.split()[0])
    try:
        orders = parse_orders(CMDLINE.read_text("ascii", "replace"))
    except CvmError as exc:
        status.event("failed", f"FAILED: {exc}", code=exc.code, message=exc.message)
        return
    try:
        guest = Guest()
        payload = Agent(orders, guest, status).work()
        code = settle(payload, status, SETTLE_SECONDS)
    except CvmError:
        return  # reported where it happened
    Supervisor(status, PowerButton(), guest.exec_pid).stand_by(payload, code, leave=orders.poweroff)


class Supervisor:
    """What PID 1 does once the work is done: bury the dead, listen to the power button, and know when to leave."""

    def __init__(self, status: Status, button: PowerButton, server: int = 0) -> None:
        self._server = server
        self._status = status
        self._button = button

    def stand_by(self, payload: RunningPayload | None, code: int | None, *, leave: bool) -> None:
        """Returns when the machine should power off.

        That is when the power button says so, or when the payload has ended and either ``leave`` is ordered or nothing
        it left behind runs any more. Without a payload only ``leave`` or the button end it.
        """
        while payload is not None and code is None:
            code = payload.wait(SUPERVISE_SECONDS)
            reap(except_pid=getattr(payload, "pid", 0))
            if self._pressed():
                return
            if code:
                self._status.event(
                    "failed", f"FAILED: payload: ended with status {code}", code="guest.payload", exit=code
                )
        while not leave and (payload is None or reap(besides=self._server)):
            reap()
            if self._pressed():
                return
            time.sleep(SUPERVISE_SECONDS)

    def _pressed(self) -> bool:
        pressed = self._button.pressed()
        if pressed:
            self._status.say("power button pressed")
        return pressed


def reap(except_pid: int = 0, *, besides: int = 0) -> bool:
    """Bury orphans, whose parent we have become; the payload itself is left to its owner.

    True while any child lives, ``besides`` one that does not count.
    """
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        if ended is None:
            return not besides or _others(besides)
        if ended.si_pid == except_pid:
            return True
        os.waitpid(ended.si_pid, os.WNOHANG)


def _others(pid: int) -> bool:
    """Whether there is another child than ``pid``; yes where the kernel does not tell (CONFIG_PROC_CHILDREN)."""
    try:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()
    except OSError:
        return True
    return bool(set(children) - {str(pid)})


def shut_down() -> None:
    """Ask every process to end, then make them; unmount what was mounted, so that the disks are clean; power off."""
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 1.0)):
        with suppress(ProcessLookupError):
            os.kill(-1, number)
        deadline = time.monotonic() + seconds
        while reap() and time.monotonic() < deadline:
            time.sleep(0.05)
    for mounted in disk.MOUNTS.glob("*"):
        with suppress(OSError):  # not mounted, or still in use: power_off writes everything out all the same
            kernel.unmount(mounted)
    time.sleep(DRAIN_SECONDS)
    kernel.power_off()


def main() -> int:
    """Never returns on PID 1."""
    if os.getpid() != 1:
        sys.stderr.write("attest.attester.init is the first process of the guest image; it does nothing elsewhere\n")
        return 2
    status = open_status()
    try:
        run(status)
    except Exception as exc:  # noqa: BLE001  PID 1 must not die: the kernel would panic instead of saying why
        status.event(
            "failed", f"FAILED: a bug in the agent: {type(exc).__name__}: {exc}", code="bug", message=repr(exc)[:400]
        )
    status.event("stopped", "powering off")
    shut_down()
    return 1


if __name__ == "__main__":
    sys.exit(main())
