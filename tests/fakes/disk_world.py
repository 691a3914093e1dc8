"""A VM of a few disks under real QEMU, confined as ``cvm launch`` confines it, without a guest: bytes go through the
monitor's ``qemu-io`` and the same nodes, limits and servers as a guest's would.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launcher.config.vm_toml import parse_vm
from launcher.core.facts import QemuFacts
from launcher.core.names import OF_A_RUN
from launcher.core.plan import Surroundings, make_plan
from launcher.io.host import probe_host
from launcher.io.layers import layered
from launcher.io.qemu import Qemu
from launcher.io.statedir import VmDir
from launcher.io.toolchain import ToolchainMissing, find_toolchain
from launcher.service.confining import confined_qemu
from launcher.service.planning import Prepared, qemu_facts
from launcher.service.storage import check_local_disks, network_disks
from launcher.service.vm_file import resolve

HEAD = """
schema = 1
name = "disks"
platform = "none"
memory = "128MiB"
accel = "tcg"
"""


def real_qemu(*needed: str) -> QemuFacts:
    """The toolchain; skips where QEMU or one of its extras is missing."""
    try:
        found = qemu_facts(find_toolchain())
    except ToolchainMissing as exc:
        pytest.skip(exc.message)
    missing = set(needed) - found.extras
    if missing:
        pytest.skip(f"this QEMU has no {', '.join(sorted(missing))}: cvm image toolchain --storage")
    return found


def prepared(text: str, folder: Path) -> Prepared:
    """The plan of a VM file with these disks; paths are relative to ``folder``."""
    config = layered(resolve(parse_vm(f"{HEAD}{text}".encode(), "disks.toml"), str(folder)))
    return Prepared(config, make_plan(config, Surroundings(probe_host(), real_qemu(), None, None, "/none")), None)


@contextmanager
def running_disks(text: str, folder: Path) -> Iterator[tuple[Qemu, VmDir, list[str]]]:
    """QEMU with these disks, and what was said about isolation. Raises what a launch would raise."""
    made = prepared(text, folder)
    vm = VmDir(str(folder / "state"), "disks")
    vm.create()
    vm.remove(*OF_A_RUN)
    said: list[str] = []
    check_local_disks(made)
    Path(vm.file("serial.log")).touch(0o600)
    with (
        open(vm.file("qemu.log"), "ab") as log,
        network_disks(made, vm, said.append),
        confined_qemu(made, vm, log, said.append) as qemu,
    ):
        yield qemu, vm, said


def qemu_io(qemu: Qemu, disk: str, command: str) -> str:
    """``write -P 0xab 0 4k`` and the like, through the device's backend. What it has to say it prints into the void."""
    found = qemu.qmp.hmp(f'qemu-io -d {disk} "{command}"')
    if "does not have a block device" in found:  # of a virtio disk it is the inner device that has one
        found = qemu.qmp.hmp(f'qemu-io -d /machine/peripheral/{disk}/virtio-backend "{command}"')
    return found
