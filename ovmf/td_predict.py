"""MRTD and RTMR0 to RTMR3 of a TD that has not been started, with the events they are made of.

What is measured where: RTMR0 the platform's configuration (PCR 1 and 7), RTMR1 what the firmware starts (PCR 2 to 6),
RTMR2 what the boot loader or kernel measures (PCR 8 to 15), RTMR3 nothing before the guest's own software. Source:
Intel, *TDX Virtual Firmware Design Guide* (344991), section 8.

Flavour ``emulated`` is the same firmware with a TPM instead of a TDX module; its PCRs are mapped to RTMRs by that list.
It measures no TD HOB, configuration volume or fw_cfg items, and one separator per PCR; PCR 0 is dropped, as MRTD stands
for it.

Something that cannot be known is named in ``unpredicted`` and its register is ``None``. Nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ovmf import td_events as make
from ovmf.acpi_loader import measured_blobs
from ovmf.authority import authority_events
from ovmf.boot_options import BootOption
from ovmf.smbios import measured_digest, parse_structures, with_firmware_structures
from ovmf.td_boot import Boot, BootEvents
from ovmf.td_firmware import TdFirmware
from ovmf.td_hob import td_hob
from ovmf.td_layout import AFTER_BOOT_ORDER, NOT_MEASURED, TdLayout
from ovmf.uki import smbios_events
from ovmf.variables import secure_boot
from policy.fixed import LaunchDigest
from policy.measured import MeasuredEvent
from policy.reference_tdx import FLAVOUR_EMULATED, FLAVOUR_TDX, SINGLE_PASS, TWO_PASS, registers_of

FW_CFG_BOOT_MENU, FW_CFG_BOOT_ORDER = "BootMenu", "bootorder"
FW_CFG_ITEMS = (
    FW_CFG_BOOT_MENU, "etc/extra-pci-roots", "etc/boot-menu-wait", "etc/reserved-memory-end", "opt/ovmf/X-PciMmio64Mb",
    FW_CFG_BOOT_ORDER,
)  # fmt: skip
"""QEMU's settings a TD's firmware measures when they exist, in this order."""
DIRECT_BOOT_ORDER = b"/rom@genroms/linuxboot_dma.bin\0"
"""fw_cfg ``bootorder`` of a QEMU with ``-kernel`` and no device with a bootindex."""


class Machine(NamedTuple):
    """What QEMU shows the firmware.

    ``acpi`` and ``fw_cfg``: fw_cfg file names and contents (BootMenu, which is no file, under that name). ``smbios``:
    the structures QEMU makes (``etc/smbios/smbios-tables``). ``None``: not known. ``boot_options``: BootOrder and the
    options it lists, when devices or an earlier boot added some; ``None``: the firmware's own.
    """

    memory_bytes: int
    acpi: Mapping[str, bytes] | None
    smbios: bytes | None
    fw_cfg: Mapping[str, bytes] | None
    boot_options: tuple[BootOption, ...] | None = None


class TdMeasurement(NamedTuple):
    """The prediction. ``rtmrs``: four registers of 48 bytes, ``None`` where ``unpredicted`` names something of it."""

    mrtd: LaunchDigest
    rtmrs: tuple[bytes | None, ...]
    events: tuple[MeasuredEvent, ...]
    unpredicted: tuple[str, ...]


def predict_td(
    firmware: TdFirmware,
    machine: Machine,
    boot: Boot,
    *,
    flavour: str = FLAVOUR_TDX,
    order: str = SINGLE_PASS,
    layout: TdLayout | None = None,
    rtmr3_stays_zero: bool = False,
) -> TdMeasurement:
    """Predict everything that can be. ``layout`` replaces what the image tells about its build.

    ``rtmr3_stays_zero``: the caller vouches that nothing in the guest extends RTMR3. Raises a ``CvmError`` for input
    that is malformed or could never start; what is merely unknown is named in the result.
    """
    check_words(flavour, order)
    build = firmware.layout if layout is None else layout
    result = _Prediction()
    on = secure_boot(firmware.variables, supported=build.secure_boot)
    secure = on == b"\1"
    started = boot.events(build, flavour, secure=secure)
    if flavour == FLAVOUR_TDX:
        _platform_of_td(result, firmware, machine, build)
    result.events += [*make.secure_boot_variables(firmware.variables, on), make.separator(0)]
    _acpi(result, machine)
    authority = _authority(result, firmware, started) if secure else []
    if not started.from_disk:
        result.events += authority
    late = _boot(result, machine, build, started)
    _ready_to_boot(result, build, flavour)
    result.events += late
    if started.from_disk:
        result.events += authority
    result.events += started.after
    if started.smbios and machine.smbios is not None:
        result.events += smbios_events(parse_structures(machine.smbios))
    result.events += started.exit
    result.unpredicted += started.unpredicted
    if not rtmr3_stays_zero:
        result.unpredicted.append("RTMR3: what the guest extends while it runs")
    events, unpredicted = tuple(result.events), tuple(result.unpredicted)
    return TdMeasurement(
        firmware.mrtd(two_pass=order == TWO_PASS), registers_of(events, unpredicted), events, unpredicted
    )


def check_words(flavour: str, order: str) -> None:
    """A flavour or order nobody knows is a mistake of the caller: ``ValueError``."""
    if flavour not in (FLAVOUR_TDX, FLAVOUR_EMULATED) or order not in (SINGLE_PASS, TWO_PASS):
        raise ValueError(f"flavour {flavour!r}, order {order!r}")


class _Prediction:
    """Events in the order of measurement, and what is missing."""

    def __init__(self) -> None:
        self.events: list[MeasuredEvent] = []
        self.unpredicted: list[str] = []


def _platform_of_td(result: _Prediction, firmware: TdFirmware, machine: Machine, build: TdLayout) -> None:
    """What only a TD measures, before everything else."""
    hob = td_hob(firmware.sections, machine.memory_bytes)
    detail = f"{machine.memory_bytes >> 20} MiB of memory"
    result.events.append(make.event(0, make.HANDOFF_TABLES2, hob, "td-hob", detail))
    volume = firmware.configuration
    if volume is None:
        result.unpredicted.append("RTMR0: the configuration volume: the firmware does not have exactly one")
    else:
        result.events.append(make.event(0, make.FIRMWARE_BLOB2, volume, "cfv", f"{len(volume)} bytes"))
    if not build.fw_cfg:
        return
    if machine.fw_cfg is None or FW_CFG_BOOT_MENU not in machine.fw_cfg:
        result.unpredicted.append("RTMR0: QEMU's boot menu settings (fw_cfg) are not known")
        return
    for name in FW_CFG_ITEMS:
        data = machine.fw_cfg.get(name, b"")
        if data:
            result.events.append(make.fw_cfg_item(name, data))


def _acpi(result: _Prediction, machine: Machine) -> None:
    if machine.acpi is None:
        result.unpredicted.append("RTMR0: the ACPI tables QEMU makes for this machine are not known")
    else:
        result.events += [make.acpi_blob(name, data) for name, data in measured_blobs(machine.acpi)]


def _authority(result: _Prediction, firmware: TdFirmware, started: BootEvents) -> list[MeasuredEvent]:
    """What vouches for the image the firmware starts: measured before the image."""
    if started.image is None:
        return []
    events, unpredicted = authority_events(started.image, firmware.variables)
    result.unpredicted += unpredicted
    if started.unified:
        result.unpredicted.append(
            "RTMR0: Secure Boot is on, and who vouches for the kernel in the unified kernel image"
        )
    return events


def _boot(result: _Prediction, machine: Machine, build: TdLayout, started: BootEvents) -> list[MeasuredEvent]:
    """From the first image to ready-to-boot: SMBIOS and boot variables.

    Returned: what follows ready-to-boot, as SMBIOS does in builds whose measuring driver is told of it last.
    """
    result.events += started.before
    variables: list[MeasuredEvent] = []
    options = build.boot_options if machine.boot_options is None else machine.boot_options
    if options and (machine.boot_options is not None or not started.from_disk):
        variables = make.boot_variables(options)
    else:
        reason = "a disk adds an entry of its own" if started.from_disk else "the firmware's own are not known"
        result.unpredicted.append(f"RTMR0: boot order and boot options: {reason}")
    smbios = _smbios(result, machine, build)
    if build.smbios == AFTER_BOOT_ORDER:
        result.events += variables
        return smbios
    result.events += [*smbios, *variables]
    return []


def _smbios(result: _Prediction, machine: Machine, build: TdLayout) -> list[MeasuredEvent]:
    if build.smbios == NOT_MEASURED:
        return []
    if machine.smbios is None:
        result.unpredicted.append("RTMR0: the SMBIOS structures QEMU makes for this machine are not known")
        return []
    structures = with_firmware_structures(parse_structures(machine.smbios), build.bios)
    if structures is None:
        result.unpredicted.append("RTMR0: the firmware's own SMBIOS structure (type 0) was not found in the image")
        return []
    digest = measured_digest(structures)
    return [MeasuredEvent(0, make.HANDOFF_TABLES, digest, "smbios", f"{len(structures)} structures")]


def _ready_to_boot(result: _Prediction, build: TdLayout, flavour: str) -> None:
    result.events.append(make.action(make.CALLING))
    if flavour == FLAVOUR_EMULATED:  # one separator per PCR 0 to 6; 0 is dropped, 1 is RTMR0's, 2 to 6 are RTMR1's
        result.events += [make.separator(0), *[make.separator(1)] * 5]
    elif build.separator is None:
        result.unpredicted += [
            f"RTMR{register}: whether it holds the separator at ready-to-boot" for register in (0, 1)
        ]
    else:
        result.events.append(make.separator(build.separator))
