"""What a plan allows and its owner should think about twice. Pure.

Sources: Linux ``Documentation/admin-guide/sysctl/kernel.rst`` (numa_balancing), ``virt/kvm/guest_memfd.c`` (folios that
cannot be migrated), ``Documentation/admin-guide/cgroup-v2.rst`` (cpu.idle).
"""

from __future__ import annotations

from launcher.core.caution import Caution
from launcher.core.facts import FirmwareFacts, HostFacts
from launcher.core.hardware import Placement
from launcher.core.refusals import hardware_warnings
from launcher.core.spec import VmSpec
from launcher.core.vm import VmConfig
from policy.vocab import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_HARDWARE = (Platform.SEV_SNP, Platform.TDX)
_SILENT = ("console=null", "console=")
_SPEAKING = ("console=", "earlycon", "earlyprintk")


def speaks(cmdline: str) -> bool:
    """Whether a kernel command line sends messages to a console."""
    return any(word.startswith(_SPEAKING) and word not in _SILENT for word in cmdline.split())


LARGE = 8 << 30
"""Bytes of memory from which it matters whether firmware accepts all of it at once."""


def cautions(config: VmConfig, host: HostFacts, spec: VmSpec, firmware: FirmwareFacts | None) -> Iterator[Caution]:
    """Of the VM that ``config`` became."""
    yield from _guest_policy(config)
    yield from _capacity(config, host)
    if config.net is not None:
        from launcher.core.network_words import network_warnings

        yield from network_warnings(config, config.net)
    yield from hardware_warnings(config)
    if config.disks:
        from launcher.core.storage_rules import storage_warnings

        yield from storage_warnings(config)
    yield from _console(config, spec.cmdline)
    yield from _reports(config)
    yield from _quotes(config)
    yield from _balancing(config, host)
    yield from _limits(config, spec)
    yield from _acceptance(config, firmware)


def _guest_policy(config: VmConfig) -> Iterator[Caution]:
    if config.platform not in (Platform.SEV_SNP, Platform.EMULATED_SNP):
        return
    if config.snp.debug:
        yield Caution("snp.debug", "snp.debug = true: the host can decrypt this guest's memory")
    if config.snp.migrate_ma:
        why = "snp.migrate_ma = true: a migration agent may move this guest to another machine"
        yield Caution("snp.migration-agent", why)


def _capacity(config: VmConfig, host: HostFacts) -> Iterator[Caution]:
    if host.memory_available is not None and config.memory > host.memory_available:
        why = f"memory: {config.memory >> 20} MiB asked for, {host.memory_available >> 20} MiB available on this host"
        yield Caution("memory.short", why)
    if config.cpu.vcpus > host.cpus:
        yield Caution("cpu.overcommitted", f"cpu.count: {config.cpu.vcpus} vCPUs on {host.cpus} processors")


def _acceptance(config: VmConfig, firmware: FirmwareFacts | None) -> Iterator[Caution]:
    """Only looked at where it matters. Reported for 64 GiB: 15 s with a lazy firmware, not done after 90 s without."""
    if firmware is not None and firmware.lazy is False:
        yield Caution(
            "firmware.eager",
            f"firmware: {firmware.path} accepts all {config.memory >> 30} GiB before the kernel starts, page by page: "
            "count a second or two for each GiB; a newer OVMF leaves it to the kernel",
        )


def _console(config: VmConfig, cmdline: str | None) -> Iterator[Caution]:
    if config.platform in _HARDWARE and cmdline is not None and speaks(cmdline):
        yield Caution(
            "guest.console",
            "console: what kernel and programs print there is the host's to read, keep and feed back: no secret may "
            "reach it; [guest] console = false for production",
        )


def _reports(config: VmConfig) -> Iterator[Caution]:
    if config.platform is Platform.SEV_SNP and config.snp.vcek_disabled:
        yield Caution(
            "snp.vcek-disabled",
            "snp.vcek_disabled: reports are signed by the VLEK only: without one on this host (SNP_VLEK_LOAD) the "
            "guest gets none, and the service must accept its authority",
        )


def _quotes(config: VmConfig) -> Iterator[Caution]:
    if config.platform is Platform.TDX and (config.tdx.quote_socket or "").startswith("vsock:"):
        yield Caution(
            "tdx.quote-vsock",
            f"tdx.quote_socket: {config.tdx.quote_socket}: QEMU, on this host, opens it: for a service of this host "
            "by vsock the kernel needs a loopback (vsock_loopback, address 1); a unix socket needs nothing",
        )


def _balancing(config: VmConfig, host: HostFacts) -> Iterator[Caution]:
    if host.numa_balancing in (None, "0"):
        return
    setting = f"kernel.numa_balancing = {host.numa_balancing}"
    if config.platform in _HARDWARE:
        yield Caution(
            "numa.balancing",
            f"{setting}: private pages cannot be moved, so it costs faults and moves nothing: place the VM right at "
            "its start (placement.mems), or sysctl kernel.numa_balancing=0",
        )
    elif config.placement != Placement():
        why = "the kernel may move a placed VM's memory after all: sysctl kernel.numa_balancing=0"
        yield Caution("numa.balancing", f"{setting}: {why}")


def _limits(config: VmConfig, spec: VmSpec) -> Iterator[Caution]:
    if config.limits.cpu_idle:
        why = "it runs only while nothing else wants a processor: its timeouts do not know that"
        yield Caution("limits.cpu-idle", f"limits.cpu_idle: {why}")
    if config.limits.bus_locks is not None and spec.bus_locks is None:
        why = "not enforced: it is KVM that counts bus locks, and this VM is emulated"
        yield Caution("limits.bus-locks", f"limits.bus_locks: {why}")
