"""Static IPv4 through the socket ioctls: no tool needed in the image, nothing asked from the (hostile) network.

Source: netdevice(7); Linux UAPI ``linux/if.h`` (struct ifreq, 40 bytes on x86-64), ``linux/route.h`` (struct rtentry,
120 bytes), native byte order except for addresses and ports.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from attest.attester.cmdline import NetOrder
from attest.attester.errors import NetworkFailed

SIOCADDRT = 0x890B
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
SIOCSIFADDR = 0x8916
SIOCSIFNETMASK = 0x891C
IFF_UP_RUNNING = 0x1 | 0x40
RTF_UP_GATEWAY = 0x1 | 0x2
SYS_NET = Path("/sys/class/net")
RESOLV_CONF = Path("/etc/resolv.conf")

Ioctl = Callable[[int, bytes], bytes]


def the_interface(sys: Path = SYS_NET) -> str | None:
    """The only interface with a device behind it, ``None`` when there is none (yet); two are an error."""
    found = sorted(entry.name for entry in sys.iterdir() if (entry / "device").exists()) if sys.is_dir() else []
    if len(found) > 1:
        raise NetworkFailed(
            f"network: {len(found)} interfaces ({', '.join(found)}), want one: cvm.net does not say which"
        )
    return found[0] if found else None


def wait_for_interface(
    *, seconds: float = 10.0, sys: Path = SYS_NET, sleep: Callable[[float], None] = time.sleep
) -> str:
    """As :func:`the_interface`, but gives the driver up to ``seconds``."""
    for _ in range(max(1, int(seconds / 0.1))):
        name = the_interface(sys)
        if name is not None:
            return name
        sleep(0.1)
    raise NetworkFailed(f"network: cvm.net is given, but no network interface appeared in {seconds:g} s")


def configure(name: str, order: NetOrder, ioctl: Ioctl) -> None:
    """Loopback up; ``name`` up with the address; default route through the gateway."""
    try:
        _up("lo", ioctl)
        ioctl(SIOCSIFADDR, _ifreq_address(name, order.address))
        ioctl(SIOCSIFNETMASK, _ifreq_address(name, _netmask(order.prefix)))
        _up(name, ioctl)
        ioctl(SIOCADDRT, _default_route(order.gateway))
    except OSError as exc:
        raise NetworkFailed(f"network: {name} cannot have {order.address}/{order.prefix}: {exc.strerror}") from None


def set_up(order: NetOrder) -> str:
    """Do it on the running kernel; the interface's name."""
    name = wait_for_interface()
    if order.dns is not None:
        RESOLV_CONF.write_text(f"nameserver {order.dns}\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        configure(name, order, lambda request, data: fcntl.ioctl(handle.fileno(), request, data))
    return name


def _up(name: str, ioctl: Ioctl) -> None:
    answer = ioctl(SIOCGIFFLAGS, struct.pack("16sh22x", name.encode(), 0))
    flags = struct.unpack_from("16sH", answer)[1] | IFF_UP_RUNNING
    ioctl(SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags))


def _sockaddr(address: str) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))


def _ifreq_address(name: str, address: str) -> bytes:
    return struct.pack("16s16s8x", name.encode(), _sockaddr(address))


def _netmask(prefix: int) -> str:
    return socket.inet_ntoa(((0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF).to_bytes(4, "big"))


def _default_route(gateway: str) -> bytes:
    everything = _sockaddr("0.0.0.0")  # noqa: S104  a route's destination, not a listener
    return struct.pack("8x16s16s16sH62x", everything, _sockaddr(gateway), everything, RTF_UP_GATEWAY)
