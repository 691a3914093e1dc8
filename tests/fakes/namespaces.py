"""A network of the test's own: nothing of it can reach the host's, or anybody."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_NEWNET = 0x40000000
ETHERTYPE = 0x88B5
"""For local experiments (IEEE 802): no stack of the host answers it."""
VNET_HEADER = bytes(10)
"""What precedes a frame in a tap's queue: no offload."""


@contextmanager
def own_network() -> Iterator[None]:
    """This thread, and what it starts, in a network namespace that has only ``lo``; back afterwards. Needs root."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if libc.unshare(_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    try:
        ip("link set lo up")
        yield
    finally:
        if libc.setns(before, _NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(before)


@contextmanager
def bridge_and_peer() -> Iterator[socket.socket]:
    """A bridge ``br0`` with one cable, ``peer`` at its far end; a raw socket there."""
    with own_network():
        ip("link add br0 type bridge mcast_snooping 0", "link add port type veth peer name peer")
        ip("link set port master br0", "link set br0 up", "link set port up", "link set peer up")
        with raw_socket("peer") as peer:
            yield peer


def raw_socket(interface: str) -> socket.socket:
    """Every frame of our type at ``interface``."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
    made.bind((interface, ETHERTYPE))
    made.settimeout(5)
    return made


def frame(to: str, sender: str, payload: bytes) -> bytes:
    """An Ethernet frame of our type."""
    addresses = bytes.fromhex((to + sender).replace(":", ""))
    return addresses + struct.pack(">H", ETHERTYPE) + payload


def ip(*lines: str) -> None:
    """``ip`` for each line of words."""
    for line in lines:
        subprocess.run(["ip", *line.split()], check=True, capture_output=True)
