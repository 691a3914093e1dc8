"""A launch's disks: local ones looked at before, network ones opened by the storage daemon for as long as QEMU runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from launcher.core.argv.nodes import QCOW2
from launcher.core.argv.storage_daemon import exported, image_options, network_copies
from launcher.core.helper_confinement import storage_confinement
from launcher.io import isolation
from launcher.io.disk_files import check_disk, check_encrypted, image_header, refuse_other_files
from launcher.io.statedir import VmDir
from launcher.io.storage_daemon import storage_daemon
from launcher.service.planning import Prepared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.core.confinement import Confinement
    from launcher.io.process import Child


def check_local_disks(prepared: Prepared) -> None:
    """Raises `PlanRefused` for a disk that is missing, of another kind, or plain where the VM file says encrypted."""
    for disk in prepared.plan.spec.disks:
        check_disk(disk)


@contextmanager
def network_disks(prepared: Prepared, vm: VmDir, say: Callable[[str], None]) -> Iterator[Child | None]:
    """The storage daemon, ``None`` when every disk is local. Raises `StorageFailed`, `PlanRefused`."""
    plan = prepared.plan
    copies = list(network_copies(plan.spec))
    if not copies:
        yield None
        return
    wanted = storage_confinement(prepared.config.isolation, plan.spec, plan.qemu)
    exports = [export for _disk, export, _source in copies]
    _look_at_images(prepared, vm, wanted)
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(storage_daemon(plan.storage_argv, dict(plan.qemu.env), vm, wanted, exports))
        for disk, export, _source in copies:
            check_encrypted(disk, daemon.heads[export], f"disk {disk.name}: {exported(disk, export).shown}")
        for line in isolation.statement(daemon.steps, "the storage daemon"):
            say(line)
        yield daemon.child


def _look_at_images(prepared: Prepared, vm: VmDir, wanted: Confinement) -> None:
    """A daemon of its own reads the headers of images: the one that opens them would open what they name, such as the
    keys of servers that lie in its jail.
    """
    plan = prepared.plan
    images = {
        export: f"disk {disk.name}: {backing.shown}"
        for disk, export, _source in network_copies(plan.spec)
        if (backing := exported(disk, export)).format == QCOW2
    }
    if not images:
        return
    argv = (*plan.qemu.program("qemu-storage-daemon"), *image_options(plan.spec))
    with storage_daemon(argv, dict(plan.qemu.env), vm, wanted, list(images)) as daemon:
        for export, where in images.items():
            refuse_other_files(image_header(daemon.heads[export], where), where)
