"""An ordinary VM's TPM: swtpm in a jail of its own, with a state that stays from launch to launch.

It starts before QEMU, which finds its control socket, and is ended after it. Source: swtpm(8).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import which

from launcher.core.confinement_settings import IsolationSettings
from launcher.core.helper_confinement import tpm_confinement
from launcher.core.names import VTPM_FOLDER, VTPM_SOCKET, VTPM_STATE
from launcher.core.text import safe_text
from launcher.errors import QemuFailed
from launcher.io.isolation import Step, allocate, jail_for, start_confined
from launcher.io.process import end
from launcher.io.statedir import VmDir
from launcher.io.tail import last_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.io.process import Child

LOG = "swtpm.log"
_SOCKET = VTPM_SOCKET.partition("/")[2]
_PATIENCE = 20.0


class Vtpm:
    """The running TPM; ``steps`` confine it."""

    __slots__ = ("child", "steps")

    def __init__(self, child: Child, steps: tuple[Step, ...]) -> None:
        self.child = child
        self.steps = steps


@contextmanager
def vtpm(settings: IsolationSettings, vm: VmDir) -> Iterator[Vtpm]:
    """It listens inside. Raises :class:`QemuFailed` with its words, `IsolationRefused`, `StateUnusable`."""
    home = VmDir(vm.path, VTPM_FOLDER)
    home.create()
    with contextlib.suppress(FileExistsError):
        os.mkdir(home.file(VTPM_STATE), 0o700)
    home.remove(_SOCKET)
    wanted = tpm_confinement(settings)
    if settings.user == "auto" and settings.mode != "off" and os.geteuid() == 0:
        wanted = wanted._replace(settings=settings._replace(user=allocate(vm)))  # QEMU's: it opens the socket
    with open(vm.file(LOG), "ab", buffering=0) as log, jail_for(wanted, home) as jail:  # noqa: PTH123  pathlib costs start-up time
        try:
            child, steps = start_confined(jail, _argv(), {}, home, log)
        except OSError as exc:
            raise QemuFailed(f"swtpm: {exc.strerror}", hint="apt install swtpm") from None
        try:
            _wait(child, home, vm)
            yield Vtpm(child, steps)
        finally:
            end(child)


def _argv() -> tuple[str, ...]:
    program = which("swtpm")
    if program is None:
        raise QemuFailed("swtpm: not on this host", hint="apt install swtpm")
    return (
        os.path.realpath(program), "socket", "--tpm2", "--tpmstate", f"dir={VTPM_STATE},mode=0600",
        "--ctrl", f"type=unixio,path={_SOCKET},mode=0600",
    )  # fmt: skip


def _wait(child: Child, home: VmDir, vm: VmDir) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not os.path.exists(home.file(_SOCKET)):
        if child.poll() is not None or time.monotonic() > deadline:
            words = "; ".join(safe_text(line, 300) for line in last_lines(vm.file(LOG), 3))
            raise QemuFailed(
                f"swtpm: did not start: {words or 'it said nothing'}", hint=f"all it wrote: {vm.file(LOG)}"
            )
        time.sleep(0.01)
