"""Start the emulated platform: a separate process that computes the launch digest or MRTD itself and signs reports.

It belongs to the other program; the two meet on a command line and a socket, never by import. For a TD it also keeps
the TPM into which the firmware measures.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time

from launcher.core.names import CHIP_SOCKET, EMULATOR_LOG, HASH_TABLE, TPM_SOCKET
from launcher.core.plan import EmulatorPlan, LaunchPlan, TdEmulatorPlan
from launcher.core.spec import VmSpec
from launcher.core.text import safe_text
from launcher.core.vm import td_attributes
from launcher.errors import EmulatorFailed
from launcher.io.process import end, spawn
from launcher.io.statedir import VmDir
from launcher.io.tail import last_lines
from policy.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

_PATIENCE = 120.0
"""Seconds until it must be ready: on first use it makes RSA keys, on a busy machine that takes a while."""
_TPM_STATE = "tpm"
"""Folder of the launch's TPM, below the VM's."""
_READY = re.compile(rb"ready ([0-9a-f]{96}) root ([0-9a-f]{64})")


class Emulator(NamedTuple):
    """The running chip: the launch digest or MRTD it computed (hex) and the SHA-256 of its root's key (hex)."""

    child: subprocess.Popen[bytes]
    launch_digest: str
    root: str


def start_emulator(plan: LaunchPlan, vm: VmDir, log: IO[bytes]) -> Emulator:
    """Start it and wait until it listens. Raises :class:`EmulatorFailed` with its own words."""
    state, options = _options(plan)
    argv = (sys.executable, "-P", "-m", "attest.emulator", *options)
    try:
        os.makedirs(state, mode=0o700, exist_ok=True)
        child = spawn(argv, cwd=vm.path, env={**os.environ, "PYTHONPATH": _import_path()}, stderr=log, pipes=True)
    except OSError as exc:
        raise EmulatorFailed(f"emulated chip: {exc}") from None
    try:
        found = _READY.fullmatch(_first_line(child))
        if found is None:
            words = "; ".join(last_lines(vm.file(EMULATOR_LOG), 3)) or "it said nothing"
            raise EmulatorFailed(f"emulated chip: did not start: {safe_text(words)}")
    except BaseException:
        end(child)
        raise
    return Emulator(child, found[1].decode("ascii"), found[2].decode("ascii"))


def _options(plan: LaunchPlan) -> tuple[str, tuple[str, ...]]:
    """The folder of the platform's keys, and the emulator's arguments."""
    if plan.emulator is not None:
        return plan.emulator.state, _snp_options(plan.emulator, plan.spec)
    if plan.td_emulator is not None:
        return plan.td_emulator.state, _td_options(plan.td_emulator, plan.spec)
    raise TypeError("only an emulated platform has an emulated chip")


def _snp_options(chip: EmulatorPlan, spec: VmSpec) -> tuple[str, ...]:
    return (
        "--state", chip.state,
        "--socket", CHIP_SOCKET,
        "--firmware", _firmware(spec),
        "--hash-table", HASH_TABLE,
        "--vcpus", str(spec.vcpus),
        "--cpu-model", spec.cpu_model,
        "--policy", f"{chip.policy:#x}",
        "--host-data", chip.host_data.hex(),
    )  # fmt: skip


def _td_options(chip: TdEmulatorPlan, spec: VmSpec) -> tuple[str, ...]:
    """The TPM's folder is this VM's own and new at every launch; the platform's folder outlives it."""
    settings = chip.settings
    return (
        "td",
        "--state", chip.state,
        "--socket", CHIP_SOCKET,
        "--tpm-socket", TPM_SOCKET,
        "--tpm-state", _TPM_STATE,
        "--firmware", _firmware(spec),
        "--attributes", f"{td_attributes(settings):#x}",
        "--mrconfigid", settings.mrconfigid.hex(),
        "--mrowner", settings.mrowner.hex(),
        "--mrownerconfig", settings.mrownerconfig.hex(),
    )  # fmt: skip


def _firmware(spec: VmSpec) -> str:
    if spec.firmware is None:
        raise TypeError("a measured platform has a firmware file")
    return spec.firmware


def _import_path() -> str:
    """Where this program's packages lie, for a child that must find their neighbours."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)


def _first_line(child: subprocess.Popen[bytes]) -> bytes:
    """The first line of its output without the newline; what there is when it ends or time is up."""
    pipe = child.stdout
    if pipe is None:
        raise TypeError("the chip is started with pipes")
    deadline = time.monotonic() + _PATIENCE
    line = b""
    while b"\n" not in line and len(line) < 4096:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            break
        data = os.read(pipe.fileno(), 4096)
        if not data:
            break
        line += data
    return line.partition(b"\n")[0]
