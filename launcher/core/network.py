"""A VM's network interface as its owner described it, and what follows from that alone. Pure.

Kinds: ``user`` needs no privilege (QEMU's own NAT, or passt); ``tap``, ``bridge`` and ``macvtap`` put the VM on a wire
of the host. Those three reach QEMU as open descriptors, so QEMU itself needs no network and no right to one.
"""

from __future__ import annotations

from policy.late import small_sha256
from policy.named import NamedTuple

USER, TAP, BRIDGE, MACVTAP, NONE = "user", "tap", "bridge", "macvtap", "none"
KINDS = (USER, TAP, BRIDGE, MACVTAP, NONE)
WIRES = (TAP, BRIDGE, MACVTAP)
SLIRP, PASST = "slirp", "passt"
VIRTIO = "virtio"
MODELS = (VIRTIO, "e1000", "e1000e")
FIRST_FD = 200
"""QEMU finds its network at this descriptor and those after it, one for each queue."""
VSOCK_FD = 199
FIRST_CID = 3
"""0 to 2 are the hypervisor, the guest itself and the host: vsock(7)."""
LAST_CID = 0xFFFFFFFE


class Forward(NamedTuple):
    """A host port that leads to a guest port. ``protocol`` is ``tcp`` or ``udp``, ``host`` an IPv4 address."""

    protocol: str
    host: str
    host_port: int
    guest_port: int


class Rate(NamedTuple):
    """A limit: bits of Ethernet frames per second, and the bytes that may go at once after a pause."""

    bits: int
    burst: int


class Guest(NamedTuple):
    """The guest's static IPv4 on a wire: ``address`` with prefix, ``gateway``, ``dns`` or ``None``."""

    address: str
    gateway: str
    dns: str | None = None


class Net(NamedTuple):
    """One interface. ``rx`` limits what the VM receives, ``tx`` what it sends. ``interface``: an existing tap, or what
    a macvtap sits on. ``mac`` is complete (:func:`default_mac`). ``mtu`` is offered to the guest and set on the wire.
    """

    kind: str = USER
    backend: str = SLIRP
    forward: tuple[Forward, ...] = ()
    model: str = VIRTIO
    mac: str | None = None
    mtu: int | None = None
    queues: int = 1
    interface: str | None = None
    bridge: str | None = None
    guest: Guest | None = None
    rx: Rate | None = None
    tx: Rate | None = None

    @property
    def wire(self) -> bool:
        """Whether it is on a wire of the host."""
        return self.kind in WIRES

    @property
    def inside_qemu(self) -> bool:
        """Whether QEMU itself opens sockets for it."""
        return self.kind == USER and self.backend == SLIRP


class Vsock(NamedTuple):
    """A vsock device. ``cid``: the address to have, or ``None`` for the first free one from the VM's own on."""

    cid: int | None = None


def default_mac(name: str) -> str:
    """The same for a VM of that name everywhere and at every launch: locally administered, unicast."""
    return ":".join(f"{byte:02x}" for byte in b"\x02" + small_sha256(f"cvm-mac:{name}".encode()).digest()[:5])


def first_cid(name: str) -> int:
    """Where the search for a free vsock address begins: the VM's own, so that it is mostly the same."""
    span = LAST_CID - FIRST_CID + 1
    return FIRST_CID + int.from_bytes(small_sha256(f"cvm-cid:{name}".encode()).digest()[:8], "big") % span


def default_burst(bits: int) -> int:
    """10 ms at full rate, at least one segment as large as a guest may send (64 KiB): less would never pass."""
    return max(1 << 16, bits // 800)
