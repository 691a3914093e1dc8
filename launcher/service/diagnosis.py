"""Use case *doctor*: look at the host and its tools, judge them."""

from __future__ import annotations

from collections.abc import Sequence
from shutil import which

from launcher.core.capability import Finding, blockers, findings, lazy_findings, td_tools
from launcher.core.doctor_checks import deep_findings
from launcher.core.doctor_setup import setup_findings
from launcher.core.facts import FirmwareFacts, QemuFacts
from launcher.core.storage_rules import storage_findings
from launcher.io.doctor_probe import probe_deep
from launcher.io.firmware import find_firmware
from launcher.io.firmware_accept import with_lazy
from launcher.io.host import probe_host
from launcher.io.setup_probe import probe_setup
from launcher.io.toolchain import ToolchainMissing, find_toolchain
from launcher.service.planning import qemu_facts
from policy.errors import CvmError
from policy.named import NamedTuple
from policy.vocab import Platform


class Diagnosis(NamedTuple):
    """Every finding, and which platforms can run."""

    findings: tuple[Finding, ...]
    can: dict[str, bool]


def diagnose(platforms: Sequence[str]) -> Diagnosis:
    """Look now."""
    qemu: QemuFacts | None = None
    firmware: FirmwareFacts | None = None
    td_firmware: FirmwareFacts | None = None
    try:
        tools = find_toolchain()
        qemu = qemu_facts(tools)
        td_firmware = find_firmware("auto", Platform.EMULATED_TDX, tools.firmware_dir, boots_kernel=True)
        firmware = find_firmware("auto", Platform.EMULATED_SNP, tools.firmware_dir, boots_kernel=True)
    except ToolchainMissing:
        qemu = None
    except CvmError:
        firmware = None  # unreadable or broken: the finding says that there is none
    deep = probe_deep()
    found = (
        *findings(probe_host(), qemu, firmware),
        *lazy_findings(_lazy(firmware, Platform.SEV_SNP), _lazy(td_firmware, Platform.TDX)),
        *td_tools(td_firmware, swtpm=which("swtpm") is not None),
        *storage_findings(qemu),
        *deep_findings(deep, None if qemu is None else qemu.version),
        *setup_findings(probe_setup(deep.kernel_log)),
    )
    return Diagnosis(found, {name: not blockers(found, Platform(name)) for name in platforms})


def _lazy(firmware: FirmwareFacts | None, platform: Platform) -> FirmwareFacts | None:
    return None if firmware is None else with_lazy(firmware, platform)
