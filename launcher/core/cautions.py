"""What a plan allows and its owner should think about twice, beyond devices, disks and networks. Pure.

Sources: Linux ``Documentation/admin-guide/sysctl/kernel.rst`` (numa_balancing), ``virt/kvm/guest_memfd.c`` (folios that
cannot be migrated), ``Documentation/admin-guide/cgroup-v2.rst`` (cpu.idle).
"""

from __future__ import annotations

from launcher.core.facts import FirmwareFacts, HostFacts
from launcher.core.hardware import Placement
from launcher.core.spec import VmSpec
from launcher.core.vm import VmConfig
from policy.vocab import Platform

_HARDWARE = (Platform.SEV_SNP, Platform.TDX)
_SILENT = ("console=null", "console=")
_SPEAKING = ("console=", "earlycon", "earlyprintk")


def speaks(cmdline: str) -> bool:
    """Whether a kernel command line sends messages to a console."""
    return any(word.startswith(_SPEAKING) and word not in _SILENT for word in cmdline.split())


LARGE = 8 << 30
"""Bytes of memory from which it matters whether firmware accepts all of it at once."""


def cautions(config: VmConfig, host: HostFacts, spec: VmSpec, firmware: FirmwareFacts | None) -> list[str]:
    """Of the VM that ``config`` became."""
    return [
        *_console(config, spec.cmdline),
        *_balancing(config, host),
        *_limits(config, spec),
        *_acceptance(config, firmware),
    ]


def _acceptance(config: VmConfig, firmware: FirmwareFacts | None) -> list[str]:
    """Only looked at where it matters. Reported for 64 GiB: 15 s with a lazy firmware, not done after 90 s without."""
    if firmware is None or firmware.lazy is not False:
        return []
    return [
        f"firmware: {firmware.path} accepts all {config.memory >> 30} GiB before the kernel starts, page by page: "
        "count a second or two for each GiB; a newer OVMF leaves it to the kernel"
    ]


def _console(config: VmConfig, cmdline: str | None) -> list[str]:
    if config.platform not in _HARDWARE or cmdline is None or not speaks(cmdline):
        return []
    return [
        "console: what kernel and programs print there is the host's to read, keep and feed back: no secret may reach "
        "it; [guest] console = false for production"
    ]


def _balancing(config: VmConfig, host: HostFacts) -> list[str]:
    if host.numa_balancing in (None, "0"):
        return []
    setting = f"kernel.numa_balancing = {host.numa_balancing}"
    if config.platform in _HARDWARE:
        return [
            f"{setting}: private pages cannot be moved, so it costs faults and moves nothing: place the VM right at "
            "its start (placement.mems), or sysctl kernel.numa_balancing=0"
        ]
    if config.placement != Placement():
        return [f"{setting}: the kernel may move a placed VM's memory after all: sysctl kernel.numa_balancing=0"]
    return []


def _limits(config: VmConfig, spec: VmSpec) -> list[str]:
    found = []
    if config.limits.cpu_idle:
        found.append(
            "limits.cpu_idle: it runs only while nothing else wants a processor: its timeouts do not know that"
        )
    if config.limits.bus_locks is not None and spec.bus_locks is None:
        found.append("limits.bus_locks: not enforced: it is KVM that counts bus locks, and this VM is emulated")
    return found
