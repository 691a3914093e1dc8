"""Watch one VM: monitor, status port, console, children and signals, in one thread. Decisions are made by
:class:`launcher.core.progress.Progress`; this only carries observations to it and its consequences out. What verbs ask
for is :mod:`launcher.service.answering`'s, a reboot inside QEMU :mod:`launcher.service.rebooting`'s.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
from collections.abc import Callable

from launcher.core import names
from launcher.core.progress import Progress
from launcher.core.states import FAILED, REFUSED
from launcher.core.text import safe_text
from launcher.core.words import sentence
from launcher.errors import QemuFailed, QmpMalformed, StateUnusable
from launcher.io.control import ControlPort, Request
from launcher.io.qemu import last_words
from launcher.io.qmp import QmpClosed, QmpRefused
from launcher.io.signals import SignalTrap
from launcher.io.statuslog import StatusLog
from launcher.io.tail import last_lines
from launcher.service.answering import Answers
from launcher.service.console_log import ConsoleLog
from launcher.service.firmware_guard import FirmwareGuard
from policy.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.io.emulator import Emulator
    from launcher.io.process import Child
    from launcher.io.qemu import Qemu
    from launcher.service.migrating import Arrival
    from launcher.service.rebooting import InPlace
    from launcher.service.record import Record

TICK = 0.2
GUEST_GRACE = 5.0
"""Seconds a guest that gave up has for powering off by itself."""
STOP_GRACE = 5.0
"""Seconds a guest has to react to the power button."""
QUIT_GRACE = 3.0


class Helpers(NamedTuple):
    """What a VM may need besides QEMU: the emulated chip, the storage daemon, the place it arrives at, and who launches
    it again inside QEMU.
    """

    emulator: Emulator | None
    storage: Child | None = None
    arrival: Arrival | None = None
    in_place: InPlace | None = None


class Supervisor:
    """``watch`` returns when QEMU has ended, or must be ended by force."""

    def __init__(self, record: Record, qemu: Qemu, helpers: Helpers, trap: SignalTrap) -> None:
        self._record = record
        self._qemu = qemu
        self._emulator = helpers.emulator
        self._storage = helpers.storage
        self._arrival = helpers.arrival
        self._in_place = helpers.in_place
        self._answers = Answers(record, qemu.qmp)
        self._firmware = FirmwareGuard(record, qemu)
        self._trap = trap
        self._selector = selectors.DefaultSelector()
        self._log = ConsoleLog(record.vm)
        self._status = StatusLog(record.vm.file(names.STATUS_LOG))
        self._told = 0
        self._ended = False
        self._deadline: float | None = None
        self._quit_sent = False
        self._unsaved = ""

    @property
    def _progress(self) -> Progress:
        return self._record.progress  # another one after a reboot inside QEMU

    def watch(self) -> None:
        """Until the end."""
        gc.enable()  # `cvm launch` switched it off for its start
        self._trap.collect()
        pidfds = [self._register_child(self._qemu.child.pid, self._qemu_ended)]
        self._register(self._qemu.qmp, self._monitor)
        self._register(self._qemu.status, self._guest)
        self._register(self._trap.wakeup, self._signals)
        control = ControlPort(self._record.vm.path, self._asked)
        self._register(control, control.serve)
        if self._emulator is not None:
            pidfds.append(self._register_child(self._emulator.child.pid, self._emulator_ended))
        if self._storage is not None:
            pidfds.append(self._register_child(self._storage.pid, self._storage_ended))
        if self._arrival is not None:
            self._register(self._arrival, self._arriving)
        try:
            while not self._ended:
                for key, _ in self._selector.select(TICK):
                    key.data()
                self._look()
            self._drain()
        finally:
            self._selector.close()
            control.close()
            for descriptor in pidfds:
                os.close(descriptor)

    def _register(self, source: object, handler: Callable[[], None]) -> None:
        self._selector.register(source, selectors.EVENT_READ, handler)  # type: ignore[arg-type]  # has fileno or is one

    def _register_child(self, pid: int, handler: Callable[[], None]) -> int:
        descriptor = os.pidfd_open(pid)
        self._register(descriptor, handler)
        return descriptor

    # What can be read -------------------------------------------------------------------------------------------

    def _monitor(self) -> None:
        try:
            for event in self._qemu.qmp.take_events():
                if event.name in ("STOP", "RESUME"):
                    self._record.pause(on=event.name == "STOP")
                if event.name == "MIGRATION" and self._arrival is not None:
                    self._arrival.event(event.data, self._progress, self._record.now())
                self._progress.qemu_event(event.name, event.data, self._record.now())
                if self._in_place is not None:
                    self._in_place_event(event.name, self._in_place)
        except (QemuFailed, QmpMalformed):
            self._forget(self._monitor)  # it ends, or talks nonsense: the pidfd tells the rest

    def _in_place_event(self, name: str, in_place: InPlace) -> None:
        """QEMU has stopped its guest and waits, for a relaunch or for the end; or it has reset it."""
        if name == "RESET":
            in_place.was_reset(self._qemu.qmp)
        elif name == "SHUTDOWN" and self._deadline is None and not in_place.asked_for():
            self._quit(self._record.now())

    def _asked(self, request: Request) -> dict[str, object]:
        """A command from the control socket."""
        return self._answers.answer(request, ending=self._progress.decided or self._deadline is not None)

    def _arriving(self) -> None:
        arrival = self._arrival
        if arrival is None:
            return
        self._selector.unregister(arrival)
        try:
            arrival.accept(self._qemu.qmp)
        except (QemuFailed, QmpMalformed, OSError) as exc:
            arrival.over = True
            self._progress.arrival_failed(f"the VM could not arrive: {exc}", self._record.now())
        finally:
            arrival.close()

    def _guest(self) -> None:
        try:
            data = self._qemu.status.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(self._qemu.status)
            return
        for event in self._status.feed(data):
            self._progress.status(event, self._record.now())

    def _signals(self) -> None:
        for number in self._trap.take():
            again = self._deadline is not None
            self._record.asked_to_end = True
            self._progress.stopped_by_us(f"asked to stop ({number.name})", self._record.now())
            self._progress.interrupted = self._progress.interrupted or number is signal.SIGINT
            booted = bool(self._progress.seconds.get("booted"))
            if self._record.paused:
                self._command("cont")  # a guest that stands still cannot see the power button
            hears = self._command("system_powerdown")
            listens = hears and booted and not again and not self._record.waiting
            self._deadline = self._record.now() + (STOP_GRACE if listens else 0.0)

    def _qemu_ended(self) -> None:
        self._ended = True

    def _emulator_ended(self) -> None:
        emulator = self._emulator
        if emulator is None or emulator.child.poll() is None:
            return
        words = "; ".join(last_lines(self._record.vm.file(names.EMULATOR_LOG), 2)) or "it said nothing"
        self._progress.emulator_ended(safe_text(words), self._record.now())
        self._forget(self._emulator_ended)

    def _forget(self, handler: Callable[[], None]) -> None:
        for key in self._sources(handler):
            self._selector.unregister(key.fileobj)

    def _sources(self, handler: Callable[[], None]) -> list[selectors.SelectorKey]:
        return [key for key in self._selector.get_map().values() if key.data == handler]

    def _storage_ended(self) -> None:
        if self._storage is None or self._storage.poll() is None:
            return
        from launcher.io.storage_daemon import last_words as storage_words

        words = storage_words(self._record.vm) or "it said nothing"
        self._progress.storage_ended(words, self._record.now())
        self._forget(self._storage_ended)

    # Every tick ----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        now = self._record.now()
        self._console(now)
        if self._qemu.qmp.waiting:
            self._monitor()
        self._answers.follow(now)
        expected = self._arrival is not None and not self._arrival.over
        if not self._record.paused and not expected and not self._record.waiting:
            if self._emulator is not None:
                self._firmware.look(now)
            self._progress.tick(now - self._record.paused_seconds)
        self._tell()
        if self._in_place is not None and self._deadline is None and self._in_place.due():
            self._in_place.relaunch(self._qemu.qmp)
            self._told = 0
        self._save()
        self._log.rotate(now)
        if (self._progress.decided or self._quit_sent) and not self._ended:
            self._bring_down(now)

    def _save(self) -> None:
        """A disk that is full costs the record of a VM that is up, not the VM; it is tried again at every tick."""
        try:
            self._record.save()
            self._unsaved = ""
        except StateUnusable as exc:
            if exc.message != self._unsaved:
                self._unsaved = exc.message
                self._record.say(f"its state is not written down: {exc.message}")

    def _console(self, now: float) -> None:
        for line in self._log.lines():
            self._progress.line(line, now)

    def _bring_down(self, now: float) -> None:
        """The outcome is decided, QEMU still runs: let the guest end, then QEMU, then use force."""
        if self._deadline is None:
            guest_said_so = self._progress.code in ("attestation.refused", "guest.failed") and "panic" not in str(
                self._progress.reason
            )
            grace = GUEST_GRACE if self._progress.state in (REFUSED, FAILED) and guest_said_so else 0.0
            self._deadline = now + grace
        if now < self._deadline:
            return
        if self._quit_sent:
            self._ended = True  # close() kills it
        else:
            self._quit(now)

    def _quit(self, now: float) -> None:
        self._quit_sent = True
        self._ended = not self._command("quit")  # close() kills it
        self._deadline = now + QUIT_GRACE

    def _command(self, name: str) -> bool:
        """Whether there is something to wait for: a QEMU that gives no answer hangs."""
        try:
            self._qemu.qmp.execute(name)
        except (QmpClosed, QmpRefused, QmpMalformed):
            return True  # it is ending already
        except QemuFailed:
            return False
        return True

    def _tell(self) -> None:
        for seen in self._progress.events[self._told :]:
            for line in sentence(seen).split("\n"):
                self._record.say(f"{seen.time:6.1f} s  {line}")
        self._told = len(self._progress.events)

    def _drain(self) -> None:
        """QEMU is gone: read what it and the guest left behind, then conclude."""
        code = self._qemu.close() if self._quit_sent else self._qemu.child.wait()
        for handler in (self._monitor, self._guest):
            if self._sources(handler):
                with contextlib.suppress(OSError, ValueError):
                    handler()
        now = self._record.now()
        self._console(now)
        self._progress.qemu_ended(0 if self._quit_sent else code, last_words(self._record.vm), now)
        self._tell()
        self._record.save()
