"""What a plan says about a VM's network: the choices, and what deserves a second look."""

from __future__ import annotations

from launcher.core.caution import Caution
from launcher.core.network import BRIDGE, MACVTAP, PASST, SLIRP, TAP, VIRTIO, Net, Rate
from launcher.core.spec import VmSpec
from launcher.core.vm import VmConfig
from policy.vocab import Platform

_WHERE = {
    TAP: "an interface the host's administrator made; opened before QEMU is confined, which gets no network of its own",
    BRIDGE: "an interface made for this launch and put in the bridge before QEMU is confined; gone with QEMU",
    MACVTAP: "made on that interface for this launch; the host itself cannot reach the guest through it",
}


def network_decisions(config: VmConfig, spec: VmSpec) -> list[tuple[str, str, str]]:
    """(what, value, reason) of the network and the vsock device."""
    net = config.net
    found = [] if net is None else [_place(net), *_interface(net), *_limits(net)]
    if spec.vsock_cid is not None:
        why = "the VM file says so" if config.vsock and config.vsock.cid else "the first free one from here on"
        found.append(("vsock address", str(spec.vsock_cid), why))
    return found


def _place(net: Net) -> tuple[str, str, str]:
    if net.wire:
        return "network", f"{net.kind} {net.interface or net.bridge}", _WHERE[net.kind]
    ports = ", ".join(f"{item.host}:{item.host_port}→{item.guest_port}" for item in net.forward) or "nothing"
    how = {SLIRP: "QEMU's own NAT", PASST: "passt, a process of its own: QEMU itself has no network"}[net.backend]
    return "network", "user" if net.backend == SLIRP else "user (passt)", f"{how}, no privileges; forwards {ports}"


def _interface(net: Net) -> list[tuple[str, str, str]]:
    if net.mac is None:
        return []
    queues = f", {net.queues} queues" if net.queues > 1 else ""
    return [("network interface", f"{net.model} {net.mac}{queues}", "an address by the VM's name, or the VM file's")]


def _limits(net: Net) -> list[tuple[str, str, str]]:
    rows = (("received", net.rx), ("sent", net.tx))
    return [
        (f"network {what}", _rate(rate), "bits of Ethernet frames, queued by the host's kernel; beyond that dropped")
        for what, rate in rows
        if rate is not None
    ]


def _rate(rate: Rate) -> str:
    return f"{rate.bits / 1e6:g} Mbit/s, bursts of {rate.burst >> 10} KiB"


def network_warnings(config: VmConfig, net: Net) -> list[Caution]:
    """What is allowed all the same."""
    found = [
        Caution("net.forward-open", f"net.forward: port {item.host_port} is open to the network on {item.host}")
        for item in net.forward
        if not item.host.startswith("127.")
    ]
    if net.model != VIRTIO and config.platform is not Platform.NONE:
        why = (
            f'net.model = "{net.model}": an emulated device whose driver was written for honest hardware, in a guest '
            "that must not trust its host; slow as well, for everything is copied out of encrypted memory"
        )
        found.append(Caution("net.emulated", why))
    return found
