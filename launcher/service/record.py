"""What is written down about a launched VM: ``state.json`` (small, for ``cvm ps``), ``result.json`` (everything)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from launcher.core import names
from launcher.core.progress import Progress, Seen
from launcher.core.states import FAILED, REFUSED, RESTARTING
from launcher.core.text import safe_text
from launcher.io import clock
from launcher.io.event_log import EventLog
from launcher.io.procid import identity
from launcher.io.statedir import VmDir
from launcher.service.planning import Prepared
from policy.errors import CvmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from launcher.io.launch_record import Signed

STATE_SCHEMA, LAUNCH_SCHEMA, VM_SCHEMA = "cvm.state/1", "cvm.launch/1", "cvm.vm/1"


class Record:
    """One launch. ``zero`` is the moment QEMU was started, on the monotonic clock."""

    def __init__(
        self, vm: VmDir, config_path: str, prepared: Prepared, progress: Progress, say: Callable[[str], None]
    ) -> None:
        self.vm = vm
        self.prepared = prepared
        self.progress = progress
        self.events = EventLog(vm.path, vm.name)
        progress.listener = self._noted
        self.say = say
        self.launch_digest = prepared.launch_digest
        self.emulated_root: str | None = None
        self.signed: Signed | None = None
        """The host's signed word about the present launch."""
        self.since = clock.now()
        self.zero = time.monotonic()
        self._config_path = config_path
        self._launcher = identity(os.getpid())
        self._qemu: dict[str, object] | None = None
        self._emulator: dict[str, object] | None = None
        self._saved: tuple[object, ...] = ()
        self.paused = False
        self.paused_seconds = 0.0
        """How long all pauses that have ended were: no timeout counts them."""
        self._paused_at = 0.0
        self.asked_to_end = False
        self.hint: str | None = None
        """What to try next, and ``exit``, the launcher's exit status: of a launch that an error of ours ended."""
        self.exit: int | None = None
        self.waiting = ""
        """Why it is not up although its launcher lives: it will be started again."""

    def announce(self) -> None:
        """Who is at work, before QEMU is started: of use only while this machine lives, so it waits for no disk."""
        self.vm.write(names.LAUNCHER_PID, f"{os.getpid()}\n".encode("ascii"), durable=False)
        self.vm.write_json(names.STATE_FILE, self._state_document(), durable=False)

    def begin(self) -> None:
        """QEMU is about to be started: its clock starts."""
        self.zero = time.monotonic()

    def renew(self) -> None:
        """The same QEMU is about to launch its guest anew: nothing that was seen of the old one counts for the new."""
        self.progress = Progress(self.progress.kind)
        self.progress.listener = self._noted
        self.events.renew()
        self.since = clock.now()
        self.zero = time.monotonic()
        self.paused, self.paused_seconds, self.waiting = False, 0.0, ""

    def started(self, qemu: int, emulator: int | None) -> None:
        """QEMU runs and answers."""
        self.progress.seconds["qemu_ready"] = round(self.now(), 3)
        self._qemu = identity(qemu)
        self._emulator = None if emulator is None else identity(emulator)
        self._saved = ()
        self._describe()
        self.save()

    def _noted(self, seen: Seen) -> None:
        if seen.event != "payload-output":  # what a payload prints is in the status log
            self.events.put(seen.source, seen.event, seen.detail, seen.time)

    def now(self) -> float:
        """Seconds since QEMU was started."""
        return time.monotonic() - self.zero

    def pause(self, *, on: bool) -> None:
        """QEMU has stopped all vCPUs, or lets them run again. The guest's own state stays what it was."""
        if on and not self.paused:
            self._paused_at = self.now()
        elif self.paused and not on:
            self.paused_seconds += self.now() - self._paused_at
        self.paused = on

    def fail(self, exc: BaseException) -> None:
        """Something kept the VM from starting, or broke the supervision."""
        from launcher.exits import BUG, exit_status  # only a launch that failed pays for it

        progress = self.progress
        if not progress.decided:
            self.hint, self.exit = (exc.hint, exit_status(exc)) if isinstance(exc, CvmError) else (None, BUG)
            progress.state = FAILED
            progress.code = exc.code if isinstance(exc, CvmError) else "bug"
            progress.reason = exc.message if isinstance(exc, CvmError) else f"{type(exc).__name__}: {exc}"
        self.save()
        if self._qemu is None:
            self._describe()  # what would have run

    def _describe(self) -> None:
        self.vm.write_json(names.VM_FILE, self._vm_document())

    def save(self) -> None:
        """Write both files if anything changed since the last time."""
        progress = self.progress
        seen = (progress.state, progress.reason, len(progress.events))
        current = (*seen, self.since, self.launch_digest, self.paused, self.waiting)
        if current == self._saved:
            return
        self.vm.write_json(names.STATE_FILE, self._state_document())
        self.vm.write_json(names.RESULT_FILE, self.document())
        self._saved = current

    @property
    def outcome(self) -> str:
        """``attested`` (and ended or running well), ``ran`` (nothing to attest), ``refused``, ``failed``,
        ``interrupted``.
        """
        progress = self.progress
        if progress.state in (REFUSED, FAILED):
            return progress.state
        if progress.was_attested:
            return "attested"
        return "interrupted" if progress.interrupted or progress.kind.attests else "ran"

    def document(self) -> dict[str, Any]:
        """The result, schema ``cvm.launch/1``."""
        progress, spec = self.progress, self.prepared.plan.spec
        return {
            "schema": LAUNCH_SCHEMA,
            "name": self.vm.name,
            "platform": spec.platform.value,
            "emulated": spec.platform.value.startswith("emulated-"),
            "state": progress.state,
            "outcome": self.outcome,
            "code": progress.code,
            "reason": progress.reason,
            "hint": self.hint,
            "exit": self.exit,
            "seconds": progress.seconds,
            "launch_digest": self.launch_digest,
            "planned_digest": self.prepared.launch_digest,
            "emulated_root": self.emulated_root,
            "payload_output": progress.output,
            "events": [item._asdict() for item in progress.events],
            "state_folder": self.vm.path,
        }

    @property
    def config_path(self) -> str:
        """The VM file, absolute."""
        return self._config_path

    def _state_document(self) -> dict[str, object]:
        spec, progress = self.prepared.plan.spec, self.progress
        return {
            "schema": STATE_SCHEMA,
            "name": self.vm.name,
            "state": RESTARTING if self.waiting else progress.state,
            "reason": safe_text((self.waiting or progress.reason).replace("\n", " "), 400),
            "platform": spec.platform.value,
            "accelerator": spec.accel,
            "vcpus": spec.vcpus,
            "memory": spec.memory,
            "since": self.since,
            "attested": progress.was_attested,
            "paused": self.paused and not progress.decided,
            "launch_digest": self.launch_digest,
            "config": self._config_path,
            "launcher": self._launcher,
            "qemu": self._qemu,
            "emulator": self._emulator,
        }

    def _vm_document(self) -> dict[str, object]:
        plan = self.prepared.plan
        return {
            "schema": VM_SCHEMA,
            "name": self.vm.name,
            "config": self._config_path,
            "decisions": [item._asdict() for item in plan.decisions],
            "argv": list(plan.argv),
            "launch_digest": self.prepared.launch_digest,
        }
