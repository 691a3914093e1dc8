"""Use case *doctor*: look at the host and its tools, judge them."""

from __future__ import annotations

from collections.abc import Sequence
from shutil import which

from launcher.core.capability import WARN, Finding, blockers, findings, lazy_findings, td_tools
from launcher.core.doctor_checks import deep_findings
from launcher.core.doctor_setup import setup_findings
from launcher.core.facts import FirmwareFacts, QemuFacts
from launcher.core.storage_rules import storage_findings
from launcher.io.doctor_probe import probe_deep
from launcher.io.firmware import find_firmware
from launcher.io.firmware_accept import with_lazy
from launcher.io.host import probe_host
from launcher.io.setup_probe import probe_setup
from launcher.io.toolchain import Toolchain, ToolchainMissing, find_toolchain
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
    tools = _tools()
    qemu, silent = _qemu(tools)
    firmware, td_firmware = _firmware(tools, Platform.EMULATED_SNP), _firmware(tools, Platform.EMULATED_TDX)
    deep = probe_deep()
    found = (
        *findings(probe_host(), qemu, firmware),
        *silent,
        *lazy_findings(_lazy(firmware, Platform.SEV_SNP), _lazy(td_firmware, Platform.TDX)),
        *td_tools(td_firmware, swtpm=which("swtpm") is not None),
        *storage_findings(qemu),
        *deep_findings(deep, None if qemu is None else qemu.version),
        *setup_findings(probe_setup(deep.kernel_log)),
    )
    return Diagnosis(found, {name: not blockers(found, Platform(name)) for name in platforms})


def _tools() -> Toolchain | None:
    try:
        return find_toolchain()
    except ToolchainMissing:
        return None


def _qemu(tools: Toolchain | None) -> tuple[QemuFacts | None, tuple[Finding, ...]]:
    """The QEMU, or why the one that is there cannot be used."""
    if tools is None:
        return None, ()
    try:
        return qemu_facts(tools), ()
    except CvmError as exc:
        why = "every option is chosen by what QEMU says it can do"
        return None, (Finding("qemu.features", WARN, exc.message, why, "reinstall it, or cvm image toolchain"),)


def _firmware(tools: Toolchain | None, platform: Platform) -> FirmwareFacts | None:
    """``None`` also for a file that is unreadable or broken: the finding says that there is none."""
    if tools is None:
        return None
    try:
        return find_firmware("auto", platform, tools.firmware_dir, boots_kernel=True)
    except CvmError:
        return None


def _lazy(firmware: FirmwareFacts | None, platform: Platform) -> FirmwareFacts | None:
    return None if firmware is None else with_lazy(firmware, platform)
