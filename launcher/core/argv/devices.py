"""Network, serial console, the virtio-serial ports and the emulated TPM.

Every virtio device is modern only and translates its addresses (``iommu_platform``): a guest with encrypted memory
refuses others. QEMU would add both by itself for a protected guest; written out, the printed command is complete.
"""

from __future__ import annotations

from launcher.core.names import (
    CHIP_PORT,
    CHIP_SOCKET,
    CONSOLE_SOCKET,
    EXEC_SOCKET,
    SERIAL_LOG,
    STATUS_PORT,
    STATUS_SOCKET,
    TD_PORT,
    TPM_SOCKET,
    VTPM_SOCKET,
)
from launcher.core.network import FIRST_FD, PASST, VIRTIO, VSOCK_FD, Net
from launcher.core.spec import VmSpec
from policy.vocab import Platform

_CHIP_PORTS = {Platform.EMULATED_SNP: CHIP_PORT, Platform.EMULATED_TDX: TD_PORT}
EXEC_PORT = "org.cvm.exec"
"""`policy.exec_channel.PORT_NAME`, whose module costs the import of a cryptography library."""
_VIRTIO = "disable-legacy=on,iommu_platform=on"


def network(spec: VmSpec) -> tuple[str, ...]:
    """The network's back end and the guest's interface. What is on a wire, and passt, is open already when QEMU starts:
    it gets descriptors. QEMU's own user network reaches the host's loopback at 10.0.2.2.
    """
    net = spec.net
    return () if net is None else ("-netdev", _backend(net), "-device", _interface(net))


def _backend(net: Net) -> str:
    if net.wire:
        numbers = ":".join(str(FIRST_FD + number) for number in range(net.queues))
        return f"tap,id=net0,{'fds' if net.queues > 1 else 'fd'}={numbers},vhost=off"
    if net.backend == PASST:
        return f"stream,id=net0,server=off,addr.type=fd,addr.str={FIRST_FD}"
    forwards = "".join(
        f",hostfwd={item.protocol}:{item.host}:{item.host_port}-:{item.guest_port}" for item in net.forward
    )
    return f"user,id=net0,ipv6=off{forwards}"


def _interface(net: Net) -> str:
    mac = "" if net.mac is None else f",mac={net.mac}"
    if net.model != VIRTIO:
        return f"{net.model},id=nic0,netdev=net0,romfile={mac}"
    mtu = "" if net.mtu is None else f",host_mtu={net.mtu}"
    # One vector for each queue and direction, one for changes of the configuration, one for control.
    queues = "" if net.queues == 1 else f",mq=on,vectors={2 * net.queues + 2}"
    return f"virtio-net-pci,id=nic0,netdev=net0,romfile={mac}{mtu}{queues},{_VIRTIO}"


def vsock(spec: VmSpec) -> tuple[str, ...]:
    """The vsock device; the kernel's side of it is open already."""
    if spec.vsock_cid is None:
        return ()
    return ("-device", f"vhost-vsock-pci,id=vsock0,guest-cid={spec.vsock_cid},vhostfd={VSOCK_FD},{_VIRTIO}")


def ports(spec: VmSpec) -> tuple[str, ...]:
    """Serial console (logged, attachable), status port, and on an emulated platform the port of the chip."""
    options = [
        "-chardev", f"socket,id=console0,path={CONSOLE_SOCKET},server=on,wait=off,logfile={SERIAL_LOG},logappend=on",
        "-serial", "chardev:console0",
        "-device", f"virtio-serial-pci,id=ports0,{_VIRTIO}",
        "-chardev", f"socket,id=status0,path={STATUS_SOCKET},server=on,wait=off",
        "-device", f"virtserialport,bus=ports0.0,chardev=status0,name={STATUS_PORT}",
    ]  # fmt: skip
    if spec.runs_commands:
        options += [
            "-chardev", f"socket,id=exec0,path={EXEC_SOCKET},server=on,wait=off",
            "-device", f"virtserialport,bus=ports0.0,chardev=exec0,name={EXEC_PORT}",
        ]  # fmt: skip
    chip = _CHIP_PORTS.get(spec.platform)
    if chip is not None:
        options += [
            "-chardev", f"socket,id=chip0,path={CHIP_SOCKET},server=off",
            "-device", f"virtserialport,bus=ports0.0,chardev=chip0,name={chip}",
        ]  # fmt: skip
    return tuple(options)


def tpm(spec: VmSpec) -> tuple[str, ...]:
    """The TPM into which the firmware of an emulated TD measures, whose emulator listens on its socket; or the one an
    ordinary VM has of its own.
    """
    emulated = spec.platform is Platform.EMULATED_TDX
    if not emulated and not spec.devices.tpm:
        return ()
    return (
        "-chardev", f"socket,id=tpmchar0,path={TPM_SOCKET if emulated else VTPM_SOCKET}",
        "-tpmdev", "emulator,id=tpm0,chardev=tpmchar0",
        "-device", "tpm-crb,tpmdev=tpm0",
    )  # fmt: skip
