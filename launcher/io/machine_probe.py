"""What an unmodified QEMU would show a guest's firmware: ACPI tables, SMBIOS structures, fw_cfg settings.

QEMU is started with the VM's own machine and devices but without the TEE, stopped (``-S``), and asked over qtest. Only
what firmware does to the chipset before it reads the tables is done here too: enable the PCI Express window and the
ACPI registers, place 64-bit BARs in the window above memory, and, for a build with SMM, agree with QEMU on what its
management interrupts do (the tables then say that plugging CPUs raises one). No guest code runs. Sources: edk2
``OvmfPkg/Library/PlatformInitLib``, ``PciHostBridgeUtilityLib`` and ``SmmControl2Dxe/SmiFeatures.c``; QEMU
``hw/i386/acpi-build.c``, which writes the tables when they are first read, and ``hw/isa/lpc_ich9.c``.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from launcher.errors import QemuFailed
from launcher.io.process import end, spawn
from launcher.io.qtest import Qtest
from ovmf.td_predict import FW_CFG_ITEMS
from policy.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

_PATIENCE = 30.0
_SLOTS, _ABSENT = 32, 0xFFFF
_MCH, _LPC = (0, 0), (0x1F, 0)
_PCIEXBAR_LOW, _PCIEXBAR_HIGH, _PMBASE, _ACPI_CONTROL = 0x60, 0x64, 0x40, 0x44
_ECAM = 0xE0000001
_PM_BASE, _ACPI_ENABLE = 0x600, 0x80
_ACPI = ("etc/acpi/", "etc/table-loader", "etc/tpm/log")
_SMBIOS = "etc/smbios/smbios-tables"
_BOOT_MENU = 0x0E
_SMI = "etc/smi/"
_SMI_FEATURES = 0x7
"""Broadcast, CPU hot-plug, CPU hot-unplug: what OVMF asks for, where QEMU offers it."""
_WINDOW = 7 << 43
"""Where OVMF puts 64-bit BARs: the last eighth of min(2^46, the guest's address space)."""
_TPM_SOCKET, _QTEST_SOCKET = "tpm.sock", "qtest.sock"


class ShownMachine(NamedTuple):
    """fw_cfg files by name; ``fw_cfg`` has BootMenu under that name besides. ``pci``: (slot, device and vendor id) of
    each device on the root bus, by slot."""

    acpi: dict[str, bytes]
    smbios: bytes
    fw_cfg: dict[str, bytes]
    pci: tuple[tuple[int, int], ...] = ()


def probe_machine(argv: Sequence[str], env: Mapping[str, str], *, tpm: bool, smm: bool = False) -> ShownMachine:
    """Start ``argv`` (without ``-S``, ``-qtest``, ``-tpmdev``) and read. Raises :class:`QemuFailed`.

    The guest must have at least 46 physical address bits, from which OVMF computes its window. ``tpm``: the options
    name a TPM device of backend ``tpm0``, for which a software TPM is started. ``smm``: the firmware is a build with
    SMM, which a machine without cannot start.
    """
    with tempfile.TemporaryDirectory(prefix="cvm-probe-") as folder, _log(folder) as log:
        options = [*argv, "-S", "-qtest", f"unix:{_QTEST_SOCKET}", "-qtest-log", "none"]
        with socket.socket(socket.AF_UNIX) as listener, _swtpm(folder, log, wanted=tpm):
            if tpm:
                options += [
                    "-chardev",
                    f"socket,id=tpmchar0,path={_TPM_SOCKET}",
                    "-tpmdev",
                    "emulator,id=tpm0,chardev=tpmchar0",
                ]
            listener.bind(os.path.join(folder, _QTEST_SOCKET))
            listener.listen(1)
            child = spawn(options, cwd=folder, env=env, stderr=log)
            try:
                with Qtest(_accepted(listener, child, folder)) as qtest:
                    return _read(qtest, smm=smm)
            finally:
                end(child)


def _read(qtest: Qtest, *, smm: bool) -> ShownMachine:
    if smm:
        _agree_on_smi(qtest)
    qtest.pci_write(_MCH, _PCIEXBAR_HIGH, 0)
    qtest.pci_write(_MCH, _PCIEXBAR_LOW, _ECAM)
    qtest.pci_write(_LPC, _PMBASE, _PM_BASE)
    control = qtest.pci_read(_LPC, _ACPI_CONTROL)
    qtest.pci_write(_LPC, _ACPI_CONTROL, control & ~0xFF | _ACPI_ENABLE)
    _place_bars(qtest, _WINDOW)
    files = qtest.files((*_ACPI, _SMBIOS, *FW_CFG_ITEMS))
    acpi = {name: data for name, data in files.items() if name.startswith(_ACPI)}
    settings = {name: data for name, data in files.items() if name not in acpi and name != _SMBIOS}
    settings["BootMenu"] = qtest.item(_BOOT_MENU, 2)
    found = ((slot, qtest.pci_read((slot, 0), 0)) for slot in range(_SLOTS))
    pci = tuple((slot, identity) for slot, identity in found if identity & 0xFFFF != _ABSENT)
    return ShownMachine(acpi, files.get(_SMBIOS, b""), settings, pci)


def _agree_on_smi(qtest: Qtest) -> None:
    """Ask for the features and seal them, as the firmware's driver does."""
    offered, wanted, sealed = (
        qtest.directory().get(f"{_SMI}{name}") for name in ("supported-features", "requested-features", "features-ok")
    )
    if offered is None or wanted is None or sealed is None:
        raise QemuFailed("QEMU: the firmware is a build with SMM, and this machine offers no SMI features")
    features = int.from_bytes(qtest.item(offered[0], 8), "little") & _SMI_FEATURES
    qtest.write_item(wanted[0], features.to_bytes(8, "little"))
    if qtest.item(sealed[0], 1) != b"\1":
        raise QemuFailed(f"QEMU: the SMI features {features:#x} were refused")


def _place_bars(qtest: Qtest, base: int) -> None:
    """64-bit BARs of all functions on bus 0 from ``base`` up, largest first; memory decoding on."""
    for size, slot, register in sorted(_bars(qtest), key=lambda bar: -bar[0]):
        base = -(-base // size) * size
        qtest.pci_write(slot, register, base & 0xFFFFFFFF)
        qtest.pci_write(slot, register + 4, base >> 32)
        command = qtest.pci_read(slot, 4) & 0xFFFF
        qtest.pci_write(slot, 4, command | 2)
        base += size


def _bars(qtest: Qtest) -> Iterator[tuple[int, tuple[int, int], int]]:
    """(size, slot, register) of every 64-bit memory BAR."""
    for slot in ((device, function) for device in range(_SLOTS) for function in range(8)):
        if qtest.pci_read(slot, 0) & 0xFFFF == _ABSENT:
            continue
        kind = qtest.pci_read(slot, 0xC) >> 16 & 0x7F
        register, last = 0x10, 0x24 if kind == 0 else 0x14
        while register <= last:
            size = _size_of_64_bit_bar(qtest, slot, register)
            if size:
                yield size, slot, register
            register += 8 if size else 4


def _size_of_64_bit_bar(qtest: Qtest, slot: tuple[int, int], register: int) -> int:
    """0 for a BAR of another kind, whose content is put back."""
    before = qtest.pci_read(slot, register)
    qtest.pci_write(slot, register, 0xFFFFFFFF)
    low = qtest.pci_read(slot, register)
    qtest.pci_write(slot, register, before)
    if low & 7 != 4:
        return 0
    high_before = qtest.pci_read(slot, register + 4)
    qtest.pci_write(slot, register + 4, 0xFFFFFFFF)
    high = qtest.pci_read(slot, register + 4)
    qtest.pci_write(slot, register + 4, high_before)
    return (1 << 64) - (high << 32 | low & ~0xF) & (1 << 64) - 1


def _accepted(listener: socket.socket, child: subprocess.Popen[bytes], folder: str) -> socket.socket:
    listener.settimeout(0.2)
    for _ in range(int(_PATIENCE / 0.2)):
        try:
            return listener.accept()[0]
        except TimeoutError:
            if child.poll() is not None:
                break
    words = Path(folder, "log").read_text("utf-8", "replace").strip().splitlines()[-1:]
    raise QemuFailed(f"QEMU: the machine cannot be looked at: {''.join(words)[:300] or 'qtest did not answer'}")


@contextmanager
def _swtpm(folder: str, log: IO[bytes], *, wanted: bool) -> Iterator[None]:
    """A TPM that only has to be there: the tables name it, nothing is measured into it."""
    if not wanted:
        yield
        return
    control = f"type=unixio,path={_TPM_SOCKET}"
    try:
        child = spawn(
            ("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}", "--ctrl", control),
            cwd=folder, env={}, stderr=log,
        )  # fmt: skip
    except OSError as exc:
        raise QemuFailed(f"swtpm: {exc}", hint="install the package swtpm") from None
    try:
        _wait_for(Path(folder, _TPM_SOCKET), child)
        yield
    finally:
        end(child)


def _wait_for(path: Path, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not path.exists():
        if child.poll() is not None or time.monotonic() > deadline:
            raise QemuFailed("swtpm: did not start")
        time.sleep(0.01)


@contextmanager
def _log(folder: str) -> Iterator[IO[bytes]]:
    with open(os.path.join(folder, "log"), "wb") as log:  # noqa: PTH123  pathlib costs start-up time
        yield log
