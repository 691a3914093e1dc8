"""The launcher's use cases, one module each: planning, launching, listing, stopping, doctor. Light: ``cvm ps`` passes
through here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.core.measurement import MeasureInputs


def measurement_inputs(path: str) -> MeasureInputs:
    """What the launch digest of the VM file at ``path`` depends on; paths in it are resolved against its folder.

    Needs no host: only the file, the CA certificate it names and, for ``firmware = "auto"``, a toolchain. Raises
    `launcher.errors.VmConfigInvalid`, `launcher.errors.PlanRefused`, `launcher.io.hashing.FileUnreadable` and
    `launcher.io.toolchain.ToolchainMissing`.
    """
    from launcher.core.cmdline import compose
    from launcher.core.inputs import measure_inputs
    from launcher.core.measurement import MeasureInputs
    from launcher.service.vm_file import load_vm, read_ca

    config = load_vm(path)
    line = compose(config, read_ca(config)) if config.boot.kernel is not None else None
    firmware = config.boot.firmware
    if firmware == "auto" and config.platform.value != "none":
        firmware = _auto_firmware()
    inputs = measure_inputs(config, firmware, line)
    return inputs or MeasureInputs(firmware, vcpus=config.cpu.vcpus, platform=config.platform.value, name=config.name)


def _auto_firmware() -> str:
    """As `launcher.io.firmware.find_firmware` decides, without reading the file."""
    from launcher.io.toolchain import find_toolchain

    return f"{find_toolchain().firmware_dir}/OVMF.amdsev.fd"
