"""From a VM file to the inputs of its launch digest. On the start-up path of ``cvm measure VM.toml``."""

from __future__ import annotations

from launcher.core.cmdline import CommandLine
from launcher.core.measurement import MeasureInputs
from launcher.core.vm import VmConfig
from policy.vocab import Platform


def measure_inputs(config: VmConfig, firmware: str, line: CommandLine | None) -> MeasureInputs | None:
    """What the launch digest of this VM depends on; ``None`` for a VM that nothing measures. Paths are absolute."""
    if config.platform is Platform.NONE:
        return None
    inputs = MeasureInputs(firmware, vcpus=config.cpu.vcpus, platform=config.platform.value, name=config.name)
    inputs.cpu_model = config.cpu.model
    inputs.kernel, inputs.initrd = config.boot.kernel, config.boot.initrd
    inputs.cmdline = line.text if line is not None else None
    inputs.guest_features = config.snp.guest_features
    return inputs
