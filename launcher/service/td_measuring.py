"""Use case *measure a TD*: from a VM file or from options, without looking at the host."""

from __future__ import annotations

from launcher.core.cmdline import compose
from launcher.core.plan import described
from launcher.core.qemu_features import NO_QEMU
from launcher.core.td import refuse_td
from launcher.core.vm import VmConfig
from launcher.io.firmware import find_firmware, is_signed
from launcher.io.qemu_known import known_capabilities
from launcher.io.td_measurement import TdChoices, TdMeasured, measure_td
from launcher.io.toolchain import Toolchain, ToolchainMissing, find_toolchain
from launcher.service.vm_file import load_vm, read_ca


def measure_td_file(path: str, choices: TdChoices) -> TdMeasured:
    """Measure the TD of a VM file. Raises what its parts raise."""
    config = load_vm(path)
    line = compose(config, read_ca(config)) if config.boot.kernel is not None else None
    return measure_td_config(config, None if line is None else line.text, choices)


def measure_td_config(config: VmConfig, cmdline: str | None, choices: TdChoices) -> TdMeasured:
    """Measure a TD whose complete kernel command line is ``cmdline``.

    Without a toolchain on this machine RTMR0 stays unpredicted; the firmware must be named then. Raises
    `launcher.errors.PlanRefused` and what `launcher.io.td_measurement.measure_td` raises.
    """
    tools = _tools(needed=config.boot.firmware == "auto")
    folder = None if tools is None else tools.firmware_dir
    firmware = find_firmware(config.boot.firmware, config.platform, folder, boots_kernel=config.boot.kernel is not None)
    kernel = config.boot.kernel
    signed = firmware is not None and firmware.secure_boot and kernel is not None and is_signed(kernel)
    refuse_td(config, firmware, kernel_signed=signed)
    spec = described(config, "tcg", NO_QEMU if tools is None else known_capabilities(tools))._replace(
        firmware=None if firmware is None else firmware.path,
        kernel=kernel,
        initrd=config.boot.initrd,
        cmdline=cmdline,
    )
    return measure_td(spec, tools, choices)


def _tools(*, needed: bool) -> Toolchain | None:
    try:
        return find_toolchain()
    except ToolchainMissing:
        if needed:
            raise
        return None
