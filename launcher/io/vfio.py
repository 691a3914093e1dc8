"""Take PCI functions from their drivers for a VM, hand QEMU their files, and give them back when it has ended.

QEMU gets descriptors of ``/dev/iommu`` and of each device's own file: inside its root there is no ``/sys`` to look them
up in. With group VFIO (ordinary, unconfined VMs only) QEMU opens everything itself.
Sources: Linux ``Documentation/driver-api/vfio.rst``; ``Documentation/ABI/testing/sysfs-bus-pci`` (driver_override).
``root`` stands for ``/`` in tests.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from launcher.core.hardware import FIRST_DEVICE_FD, IOMMU_FD, IOMMUFD, Passthrough
from launcher.errors import HostNotCapable
from launcher.io.isolation import Fds
from launcher.io.sysfs import read_text, write_text
from policy.named import NamedTuple

DRIVER = "vfio-pci"
_BRIDGE = "0x06"


class PassthroughImpossible(HostNotCapable):
    """A device that cannot be given to a VM on this host as it stands."""

    code = "passthrough.impossible"


class PciFunction(NamedTuple):
    """One function. ``group``: the others in its IOMMU group; ``node``: its NUMA node, -1 if it has none."""

    address: str
    driver: str
    kind: str
    group: tuple[str, ...]
    node: int
    virtual: bool


def look(address: str, root: Path = Path("/")) -> PciFunction:
    """Read one function. Raises :class:`PassthroughImpossible` when it is not there or no IOMMU guards it."""
    folder = _folder(address, root)
    if not folder.is_dir():
        raise PassthroughImpossible(f"passthrough: {address}: no such PCI device", hint="lspci -D lists them")
    members = folder / "iommu_group/devices"
    if not members.is_dir():
        raise PassthroughImpossible(
            f"passthrough: {address}: no IOMMU guards it, so it could write into all of the host's memory",
            hint="switch on the IOMMU in the BIOS, and boot with intel_iommu=on on Intel",
        )
    group = tuple(sorted(entry.name for entry in members.iterdir() if entry.name != address))
    node = read_text(folder / "numa_node")
    return PciFunction(
        address,
        _driver(folder),
        read_text(folder / "class"),
        group,
        int(node) if node.lstrip("-").isdigit() else -1,
        (folder / "physfn").exists(),
    )


def check_groups(wanted: Sequence[Passthrough], root: Path = Path("/")) -> tuple[PciFunction, ...]:
    """Every function, if nothing but bridges and functions of the same VM shares its IOMMU group."""
    found = tuple(look(item.address, root) for item in wanted)
    mine = {item.address for item in wanted}
    for item in found:
        foreign = [other for other in item.group if other not in mine and not _harmless(_folder(other, root))]
        if foreign:
            raise PassthroughImpossible(
                f"passthrough: {item.address}: in one IOMMU group with {', '.join(foreign)}, which the host uses",
                hint="pass all of them, bind them to vfio-pci, or use a slot with a group of its own",
            )
    return found


@contextmanager
def taken(wanted: Sequence[Passthrough], root: Path = Path("/")) -> Iterator[Fds]:
    """Bound to vfio-pci inside, each with its own driver again afterwards. Raises :class:`PassthroughImpossible`."""
    with contextlib.ExitStack() as undo:
        for item in check_groups(wanted, root) if wanted else ():
            if item.driver != DRIVER:
                undo.callback(_give_back, item, root)
                _bind(item, root)
        yield _open(wanted, root, undo)


def _open(wanted: Sequence[Passthrough], root: Path, undo: contextlib.ExitStack) -> Fds:
    devices = [(number, item) for number, item in enumerate(wanted) if item.backend == IOMMUFD]
    if not devices:
        return ()
    fds = [(_opened(root / "dev/iommu", "the kernel needs CONFIG_IOMMUFD", undo), IOMMU_FD)]
    for number, item in devices:
        entries = _folder(item.address, root) / "vfio-dev"
        names = sorted(entry.name for entry in entries.iterdir()) if entries.is_dir() else []
        if not names:
            raise PassthroughImpossible(
                f"passthrough: {item.address}: has no file of its own under /dev/vfio/devices",
                hint="the kernel needs CONFIG_VFIO_DEVICE_CDEV (and CONFIG_IOMMUFD)",
            )
        path = root / "dev/vfio/devices" / names[0]
        fds.append((_opened(path, "vfio-pci did not take it", undo), FIRST_DEVICE_FD + number))
    return tuple(fds)


def _opened(path: Path, hint: str, undo: contextlib.ExitStack) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        raise PassthroughImpossible(f"passthrough: {path}: {exc.strerror}", hint=hint) from None
    undo.callback(os.close, descriptor)
    return descriptor


def _bind(item: PciFunction, root: Path) -> None:
    folder = _folder(item.address, root)
    try:
        write_text(folder / "driver_override", DRIVER)
        if item.driver:
            write_text(folder / "driver/unbind", item.address)
        write_text(root / "sys/bus/pci/drivers_probe", item.address)
    except OSError as exc:
        raise PassthroughImpossible(
            f"passthrough: {item.address}: {exc.filename}: {exc.strerror}",
            hint="modprobe vfio-pci; only root may do this",
        ) from None
    if _driver(folder) != DRIVER:
        now = _driver(folder) or "no driver"
        raise PassthroughImpossible(
            f"passthrough: {item.address}: vfio-pci did not take it ({now})", hint="modprobe vfio-pci"
        )


def _give_back(item: PciFunction, root: Path) -> None:
    """Whatever fails here is the host's to repair; the other devices still get their drivers."""
    folder = _folder(item.address, root)
    for path, text in (
        (folder / "driver_override", "\n"),
        (folder / "driver/unbind", item.address),
        (root / "sys/bus/pci/drivers_probe", item.address),
    ):
        with contextlib.suppress(OSError):
            write_text(path, text)


def _harmless(folder: Path) -> bool:
    return read_text(folder / "class").startswith(_BRIDGE) or _driver(folder) == DRIVER


def _driver(folder: Path) -> str:
    link = folder / "driver"
    return link.resolve().name if link.exists() else ""


def _folder(address: str, root: Path) -> Path:
    return root / "sys/bus/pci/devices" / address
