"""A VM on its way: its departure and its arrival, as the supervisors see them tick by tick; and *migrate* itself."""

from __future__ import annotations

import time

from launcher.core.migration import Target, parse_target, refuse_protected, refuse_tied
from launcher.core.progress import Progress
from launcher.core.spec import VmSpec
from launcher.core.states import LIVE
from launcher.errors import QemuFailed, QmpMalformed, WrongState
from launcher.io.control import ask
from launcher.io.migration import connect, hand_over, listen
from launcher.io.qmp import Qmp
from launcher.io.statedir import existing, state_root
from launcher.service.listing import describe
from launcher.service.resizing import plugged_memory
from policy.vocab import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_POLL = 0.2
_GONE = ("completed",)
_STAYED = ("failed", "cancelled", "none")


class Departure:
    """Begun when made; raises what keeps it from beginning."""

    def __init__(self, qmp: Qmp, spec: VmSpec, target: Target) -> None:
        refuse_protected(spec.platform)
        refuse_tied(len(spec.passthrough), plugged_memory(qmp), tpm=spec.devices.tpm, shares=len(spec.shares))
        channel = connect(target)
        try:
            qmp.execute("migrate", uri=hand_over(qmp, channel))
        finally:
            channel.close()
        self.target = target
        self.problem = ""
        self._qmp = qmp

    def look(self, progress: Progress, now: float) -> str | None:
        """``None`` while it goes on; empty when the VM has left; else why it stayed, which ``problem`` keeps."""
        try:
            found = self._qmp.execute("query-migrate")
        except (QemuFailed, QmpMalformed) as exc:
            self.problem = exc.message
            return self.problem
        status = str(found.get("status"))
        if status in _GONE:
            spent, down = found.get("total-time", 0), found.get("downtime", 0)
            progress.migrated(f"moved to {self.target.text} in {spent} ms, {down} ms of them at a stand", now)
            return ""
        if status in _STAYED:
            self.problem = str(found.get("error-desc") or status)
            return self.problem
        return None


class Arrival:
    """Waits for a VM; a new connection is QEMU's at once."""

    def __init__(self, target: Target) -> None:
        self._server = listen(target)
        self.over = False

    def fileno(self) -> int:
        """For select: readable when somebody comes."""
        return self._server.fileno()

    def accept(self, qmp: Qmp) -> None:
        """Take the one connection. Raises `QemuFailed`."""
        channel, _ = self._server.accept()
        with channel:
            channel.setblocking(True)
            qmp.execute("migrate-incoming", uri=hand_over(qmp, channel))

    def event(self, data: dict[str, Any], progress: Progress, now: float) -> None:
        """QEMU's event MIGRATION."""
        status = data.get("status")
        if status == "completed":
            self.over = True
            progress.arrived(now)
        elif status == "failed":
            self.over = True
            progress.arrival_failed("the VM did not arrive whole; it goes on where it came from", now)

    def close(self) -> None:
        """Nobody else may come."""
        self._server.close()


def migrate(name: str, to: str, *, plain: bool) -> dict[str, Any]:
    """Move a running VM; its row here afterwards. Raises `NotFound`, `WrongState`, `PlanRefused`."""
    target = parse_target(to, plain=plain)
    vm = existing(state_root(), name)
    row = describe(vm)
    if row["state"] not in LIVE:
        raise WrongState(f"VM {name} is {row['state']}, not up", hint=f"cvm logs {name} shows its last words")
    refuse_protected(Platform(str(row["platform"])))
    ask(vm.path, name, "migrate", {"to": target.text})
    while True:
        time.sleep(_POLL)
        row = describe(vm)
        if row["state"] not in LIVE:
            return row
        try:
            problem = ask(vm.path, name, "migration")["problem"]
        except WrongState:
            continue  # its launcher has just ended: the row tells
        if problem:
            raise WrongState(f"VM {name} was not moved and goes on here: {problem}")
