"""From a TD's plan to MRTD and RTMRs: read the files, ask QEMU for its tables, let `ovmf` do the arithmetic."""

from __future__ import annotations

import mmap
import os
from hashlib import sha256, sha384

from launcher.core.argv import qemu_options
from launcher.core.argv.shown import without_tee
from launcher.core.spec import VmSpec
from launcher.io.firmware import MAX_KERNEL
from launcher.io.hashing import FileUnreadable, hash_file, read_file
from launcher.io.measurement import MeasurementImpossible, printable
from launcher.io.shown_cache import shown_machine
from launcher.io.td_boot_options import made_by_firmware, read_variables
from launcher.io.toolchain import Toolchain
from ovmf.firmware import MAX_FIRMWARE
from ovmf.smbios import with_processor_id
from ovmf.td_boot import Boot, DirectBoot
from ovmf.td_disk import DEFAULT_PATH, DiskBoot
from ovmf.td_firmware import TdFirmware
from ovmf.td_hob import ram_below_4g
from ovmf.td_kernel import DirectKernel, patched_by_old_qemu
from ovmf.td_predict import Machine, TdMeasurement, predict_td
from policy.fixed import LaunchDigest
from policy.named import NamedTuple
from policy.reference import MeasuredInput
from policy.reference_tdx import FLAVOUR_EMULATED, FLAVOUR_TDX, SINGLE_PASS, TWO_PASS, TdRecipe
from policy.vocab import Platform

_MAX_DISK = 1 << 44


class TdChoices(NamedTuple):
    """What a measurement may add to a plan. ``order``: a word of `policy.reference_tdx`; ``two-pass`` stands for QEMU
    before 9, which also patches the kernel's header and makes other tables than any QEMU here would. ``processor_id``:
    as in `launcher.core.vm.TdxSettings`, instead of it. Of a boot from a disk: ``path``, the application on it;
    ``boot_variables``, a folder for `launcher.io.td_boot_options.read_variables`; ``exit_failures``, see
    `ovmf.td_disk.DiskBoot`.
    """

    order: str = SINGLE_PASS
    path: str = DEFAULT_PATH
    processor_id: bytes | None = None
    boot_variables: str | None = None
    exit_failures: int | None = None

    @property
    def of_a_disk(self) -> bool:
        """Something is said that only a boot from a disk has."""
        return (self.path, self.boot_variables, self.exit_failures) != (DEFAULT_PATH, None, None)


class TdMeasured(NamedTuple):
    """MRTD and RTMRs with what they follow from. ``inputs``: (name, path or text, SHA-256 hex)."""

    spec: VmSpec
    order: str
    firmware: TdFirmware
    prediction: TdMeasurement
    inputs: tuple[tuple[str, str, str], ...]

    @property
    def launch_digest(self) -> LaunchDigest:
        """MRTD."""
        return self.prediction.mrtd

    def files(self) -> list[tuple[str, str, str]]:
        """As `launcher.io.measurement.Measured.files`."""
        return list(self.inputs)

    def recipe(self) -> TdRecipe:
        """The recipe for a reference-value file."""
        return TdRecipe(
            firmware_sha256=self.firmware.sha256,
            order=self.order,
            flavour=_flavour(self.spec),
            layout=self.firmware.layout.words(),
            memory_bytes=self.spec.memory,
            vcpus=self.spec.vcpus,
            events=self.prediction.events,
            unpredicted=self.prediction.unpredicted,
            inputs=tuple(MeasuredInput(*item) for item in self.inputs),
        )


def measure_td(spec: VmSpec, tools: Toolchain | None, choices: TdChoices) -> TdMeasured:
    """Measure a planned TD. Without ``tools`` the tables QEMU makes are unknown, and so is RTMR0.

    Raises `launcher.io.hashing.FileUnreadable`, `launcher.errors.QemuFailed`, :class:`MeasurementImpossible` and
    `ovmf.errors.OvmfError`.
    """
    if spec.firmware is None:
        raise MeasurementImpossible("no firmware: a TD starts in one")
    if choices.order == TWO_PASS and spec.platform is Platform.EMULATED_TDX:
        raise MeasurementImpossible("--order two-pass: of old QEMUs with TDX; an emulated TD is started by this one")
    firmware = TdFirmware.from_bytes(read_file(spec.firmware, "firmware", MAX_FIRMWARE))
    boot, boot_inputs = _boot(spec, choices)
    machine = _machine(spec, firmware, tools if choices.order == SINGLE_PASS else None, choices)
    prediction = predict_td(firmware, machine, boot, flavour=_flavour(spec), order=choices.order)
    inputs = (("firmware", printable(spec.firmware), firmware.sha256.hex()), *boot_inputs)
    return TdMeasured(spec, choices.order, firmware, prediction, inputs)


def _flavour(spec: VmSpec) -> str:
    return FLAVOUR_EMULATED if spec.platform is Platform.EMULATED_TDX else FLAVOUR_TDX


def _machine(spec: VmSpec, firmware: TdFirmware, tools: Toolchain | None, choices: TdChoices) -> Machine:
    """What QEMU shows the firmware. A TD's processor is its host's, so its SMBIOS structures are known only when the
    owner says which. With a function of the host's PCI bus nothing is known: it cannot be shown without it."""
    options = None if choices.boot_variables is None else read_variables(choices.boot_variables)
    if tools is None or spec.passthrough:
        return Machine(spec.memory, None, None, None, options)
    shown = shown_machine(tools, without_tee(qemu_options(spec)), tpm=spec.platform is Platform.EMULATED_TDX)
    smbios: bytes | None = shown.smbios
    if spec.tdx is not None:
        known = choices.processor_id or spec.tdx.processor_id
        smbios = None if known is None else with_processor_id(shown.smbios, known)
    if spec.kernel is None and options is None:
        options = made_by_firmware(spec, firmware.layout, shown)
    return Machine(spec.memory, shown.acpi, smbios, shown.fw_cfg, options)


def _boot(spec: VmSpec, choices: TdChoices) -> tuple[Boot, list[tuple[str, str, str]]]:
    if spec.kernel is None:
        return _disk_boot(spec, choices)
    if choices.of_a_disk:
        raise MeasurementImpossible(
            "--boot-path, --boot-variables, --exit-failures: this VM boots a kernel, not a disk"
        )
    kernel = read_file(spec.kernel, "kernel", MAX_KERNEL)
    cmdline = os.fsencode(spec.cmdline or "")
    inputs = [("kernel", printable(spec.kernel), sha256(kernel).hexdigest())]
    initrd_sha384, initrd_size = None, None
    if spec.initrd is not None:
        initrd_sha384 = hash_file(spec.initrd, "initrd", sha384)
        initrd_size = os.stat(spec.initrd).st_size
        inputs.append(("initrd", printable(spec.initrd), hash_file(spec.initrd, "initrd").hex()))
    inputs.append(("cmdline", printable(spec.cmdline or ""), sha256(cmdline).hexdigest()))
    if choices.order == TWO_PASS:
        kernel = patched_by_old_qemu(kernel, ram_below_4g=ram_below_4g(spec.memory), initrd_size=initrd_size)
    return DirectBoot(DirectKernel(kernel, initrd_sha384, cmdline)), inputs


def _disk_boot(spec: VmSpec, choices: TdChoices) -> tuple[Boot, list[tuple[str, str, str]]]:
    if not spec.disks:
        raise MeasurementImpossible("nothing to boot: want a kernel or a disk")
    path = spec.disks[0].path
    boot = DiskBoot(_mapped(path), choices.path, choices.exit_failures)
    table, _, application = boot.contents()
    return boot, [
        ("gpt", printable(path), sha256(table.measured).hexdigest()),
        ("application", printable(f"{path}: {choices.path}"), sha256(application).hexdigest()),
    ]


def _mapped(path: str) -> memoryview:
    """A whole image without reading it."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  pathlib costs start-up time
            size = os.fstat(file.fileno()).st_size
            if not 0 < size <= _MAX_DISK:
                raise FileUnreadable(f"disk: {path}: got {size} bytes, want 1..{_MAX_DISK}")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise FileUnreadable(f"disk: {path}: {error}") from None
