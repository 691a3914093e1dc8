"""What a plan says about processors, memory and devices: the choices with their reasons."""

from __future__ import annotations

from launcher.core.hardware import GROUP
from launcher.core.vm import VmConfig


def hardware_decisions(config: VmConfig) -> list[tuple[str, str, str]]:
    """(what, value, reason) of what the VM file chooses beyond the defaults."""
    return [*_cpu(config), *_ram(config), *_devices(config)]


def _cpu(config: VmConfig) -> list[tuple[str, str, str]]:
    cpu, found = config.cpu, []
    if (cpu.sockets, cpu.threads) != (1, 1):
        cores = cpu.vcpus // (cpu.sockets * cpu.threads)
        shape = f"{cpu.sockets} sockets × {cores} cores × {cpu.threads} threads"
        found.append(("cpu shape", shape, "what the guest's scheduler takes for true; pin vCPUs so that it is"))
    if cpu.features:
        found.append(("cpu features", " ".join(cpu.features), "no input of a launch digest; a TD's quote shows XFAM"))
    return found


def _ram(config: VmConfig) -> list[tuple[str, str, str]]:
    ram, found = config.ram, []
    if ram.huge_pages:
        found.append(("huge pages", f"{ram.huge_pages >> 20} MiB", "all of them at the start, or the launch fails"))
    elif ram.prealloc:
        found.append(("memory is filled", "at the start", "no page fault later, and no overcommitment"))
    if ram.merge:
        found.append(("page merging", "KSM may", "the VM file says so; /sys/kernel/mm/ksm/run must be 1"))
    if ram.has_balloon:
        reporting = "with free-page reporting" if ram.free_page_reporting else "by `cvm memory`"
        found.append(("balloon", reporting, "gives memory back to the host; its driver must be in the guest"))
    if ram.max is not None and ram.by_device:
        most = f"up to {ram.max >> 20} MiB by virtio-mem"
        found.append(("memory can grow", most, "`cvm memory` asks the guest's driver for blocks, more or fewer"))
    elif ram.max is not None:
        steps = f"up to {ram.max >> 20} MiB in {ram.slots} steps"
        found.append(("memory can grow", steps, "`cvm memory` plugs modules in, and out if the guest lets go"))
    for number, node in enumerate(config.numa):
        where = "any host node" if node.host is None else f"host node {node.host}"
        found.append(
            (f"NUMA node {number}", f"vCPUs {node.cpus}, {node.memory >> 20} MiB, {where}", "the VM file says so")
        )
    return found


def _devices(config: VmConfig) -> list[tuple[str, str, str]]:
    devices = config.devices
    named = (
        ("rng", devices.rng),
        ("usb tablet", devices.usb_tablet),
        ("TPM (software, its state stays with the VM's)", devices.tpm),
        (f"screen ({devices.video})", devices.video != "none"),
    )
    found = [("device", name, "the VM file says so") for name, wanted in named if wanted]
    for share in config.shares:
        how = "read only" if share.readonly else "the guest can change it"
        found.append((f"share {share.tag}", share.path, f"virtiofs, {how}; a daemon of its own, confined, opens it"))
    for item in config.passthrough:
        how = "iommufd; opened before QEMU is confined"
        if item.backend == GROUP:
            how = "group VFIO; QEMU is not confined"
        found.append((f"passthrough {item.address}", "vfio-pci", f"{how}; its own driver gets it back at the end"))
    return found
