"""Network limits: what passes a limited tap, against what the VM file allows. Needs root; in namespaces of its own.

Frames are written into the tap as QEMU would, and read from the far end of a cable in the same bridge (and
the other way round). "ours" is the measured rate, "peer" the configured one; the target is within 5 %.
"""

from __future__ import annotations

import os
import select
import socket
import time
from typing import Any

from launcher.core.network import Net, Rate, default_burst
from launcher.io.netdev import wire
from tests.fakes.namespaces import VNET_HEADER, bridge_and_peer, frame

RATES = (10_000_000, 100_000_000)
SECONDS, WARM = 4.0, 0.5
VM, PEER = "02:00:00:00:00:01", "02:00:00:00:00:02"
PAYLOAD = 1486


def run() -> list[dict[str, Any]]:
    """The rows of this comparison."""
    if os.geteuid() != 0:
        return []
    return [_row(bits, sends=sends) for bits in RATES for sends in (True, False)]


def _row(bits: int, *, sends: bool) -> dict[str, Any]:
    rate = Rate(bits, default_burst(bits))
    net = Net(kind="bridge", bridge="br0", mac=VM)
    net = net._replace(tx=rate) if sends else net._replace(rx=rate)
    with bridge_and_peer() as peer, wire(net, "/bench") as (tap,):
        measured = _throughput(tap, peer, sends=sends)
    ratio = measured / bits
    return {
        "name": f"network limit, {'sent' if sends else 'received'} by the VM, {bits // 10**6} Mbit/s",
        "ours": f"{measured / 1e6:.2f} Mbit/s", "peer": f"{bits / 1e6:.0f} Mbit/s", "ratio": f"{ratio:.3f}",
        "target": "0.95 to 1.05", "met": 0.95 <= ratio <= 1.05,
        "detail": f"frames of {PAYLOAD + 14} bytes, {SECONDS:g} s; no guest, the tap is written and read here",
    }  # fmt: skip


def _throughput(tap: int, peer: socket.socket, *, sends: bool) -> float:
    """Bits per second of frames that arrive while more is offered than passes."""
    os.set_blocking(tap, False)
    peer.setblocking(False)
    payload = bytes(PAYLOAD)
    source, sink = (tap, peer.fileno()) if sends else (peer.fileno(), tap)
    offered = VNET_HEADER + frame(PEER, VM, payload) if sends else frame(VM, PEER, payload)
    header = 0 if sends else len(VNET_HEADER)
    begin = time.monotonic() + WARM
    end, count = begin + SECONDS, 0
    while (now := time.monotonic()) < end:
        _offer(source, offered)
        select.select([sink], [], [], 0.0005)
        arrived = _take(sink, header)
        count += arrived if now >= begin else 0
    return count * 8 / SECONDS


def _offer(descriptor: int, data: bytes) -> None:
    """About a millisecond's worth at 100 Mbit/s and more: the queue never runs dry, nothing starves the reader."""
    for _ in range(16):
        try:
            os.write(descriptor, data)
        except OSError:
            return


def _take(descriptor: int, header: int) -> int:
    count = 0
    while True:
        try:
            count += len(os.read(descriptor, 4096)) - header
        except BlockingIOError:
            return count
