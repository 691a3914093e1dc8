"""Open a VM's network before its QEMU is confined: tap, bridge, macvtap. QEMU gets descriptors, and no right to more.

Sources: Linux ``Documentation/networking/tuntap.rst``, ``include/uapi/linux/if_tun.h``; qemu-bridge-helper of QEMU.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import stat
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from launcher.core.network import BRIDGE, MACVTAP, TAP, Net
from launcher.io import shaping
from launcher.io.iproute import NetworkRefused, run_ip

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_MULTI_QUEUE, _IFF_VNET_HDR = 0x2, 0x1000, 0x100, 0x4000
_CAP_NET_ADMIN = 12
TUN = "/dev/net/tun"
HELPER = "cvmi"
"""Begins the name of the interface that queues what a VM sends."""
BRIDGE_HELPERS = ("/usr/lib/qemu/qemu-bridge-helper", "/usr/libexec/qemu-bridge-helper")


def link_name(folder: str, prefix: str = "cvm") -> str:
    """An interface's name for the VM whose state is in ``folder``; at most 15 characters (IFNAMSIZ)."""
    return prefix + hashlib.sha256(os.fsencode(folder)).hexdigest()[:10]


def may_make_interfaces() -> bool:
    """Whether this process has CAP_NET_ADMIN."""
    with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123  pathlib costs start-up time
        mask = next((line.split()[1] for line in file if line.startswith("CapEff:")), "0")
    return bool(int(mask, 16) >> _CAP_NET_ADMIN & 1)


@contextmanager
def wire(net: Net, folder: str) -> Iterator[tuple[int, ...]]:
    """One open descriptor for each queue; what was made for them is gone afterwards. Raises :class:`NetworkRefused`."""
    with contextlib.ExitStack() as undo:
        opened = {TAP: _existing, BRIDGE: _bridged, MACVTAP: _macvtap}[net.kind](net, folder, undo)
        yield opened


def _existing(net: Net, folder: str, undo: contextlib.ExitStack) -> tuple[int, ...]:
    name = net.interface or ""
    if not _exists(name):
        raise NetworkRefused(
            f"net.interface: {name}: no such interface on this host",
            hint=f'ip tuntap add dev {name} mode tap user $USER && ip link set {name} up; or kind = "bridge"',
        )
    queues = _tap(name, net.queues, undo)
    _mtu(name, net)
    _limit(net, name, folder, undo)
    return queues


def _bridged(net: Net, folder: str, undo: contextlib.ExitStack) -> tuple[int, ...]:
    bridge = net.bridge or ""
    if not _exists(bridge):
        raise NetworkRefused(
            f"net.bridge: {bridge}: no such interface on this host",
            hint=f"ip link add {bridge} type bridge && ip link set {bridge} up",
        )
    if not may_make_interfaces():
        return _by_helper(net, bridge, undo)
    name = link_name(folder)
    queues = _tap(name, net.queues, undo)
    _mtu(name, net)
    run_ip("link", "set", "dev", name, "master", bridge)
    run_ip("link", "set", "dev", name, "up")
    _limit(net, name, folder, undo)
    return queues


def _by_helper(net: Net, bridge: str, undo: contextlib.ExitStack) -> tuple[int, ...]:
    """QEMU's own set-uid helper, which opens an interface for whom ``/etc/qemu/bridge.conf`` allows it."""
    helper = next((path for path in BRIDGE_HELPERS if _set_uid(path)), None)
    wanted = [key for key, asked in (("rx_rate", net.rx), ("tx_rate", net.tx), ("mtu", net.mtu)) if asked is not None]
    wanted += ["queues"] if net.queues > 1 else []
    if helper is None or wanted:
        how = f"and {', '.join(wanted)} need it too" if wanted else "and there is no set-uid qemu-bridge-helper"
        raise NetworkRefused(
            f"net.bridge: {bridge}: an interface in a bridge needs CAP_NET_ADMIN, {how}",
            hint='an administrator makes a tap for you, then kind = "tap"; or kind = "user", which needs no privilege',
        )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [helper, "--use-vnet", f"--br={bridge}", f"--fd={theirs.fileno()}"]
        done = subprocess.run(command, pass_fds=(theirs.fileno(),), capture_output=True, check=False, timeout=20)
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip()[:200]
            raise NetworkRefused(f"net.bridge: {bridge}: {helper}: {words}", hint="allow it in /etc/qemu/bridge.conf")
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    return tuple(_closed_later(descriptor, undo) for descriptor in descriptors)


def _macvtap(net: Net, folder: str, undo: contextlib.ExitStack) -> tuple[int, ...]:
    lower, name = net.interface or "", link_name(folder)
    if not _exists(lower):
        raise NetworkRefused(f"net.interface: {lower}: no such interface on this host", hint="ip link shows them")
    if not may_make_interfaces():
        raise NetworkRefused(
            f"net.interface: {lower}: a macvtap needs CAP_NET_ADMIN", hint='kind = "user" needs no privilege'
        )
    _remove(name)
    address = ("address", net.mac) if net.mac is not None else ()
    run_ip("link", "add", "link", lower, "name", name, *address, "type", "macvtap", "mode", "bridge")
    undo.callback(_remove, name)
    _mtu(name, net)
    run_ip("link", "set", "dev", name, "up")
    node = _macvtap_node(name, folder, undo)
    queues = tuple(_queue(node, name, net.queues, undo) for _ in range(net.queues))
    # What the guest sends leaves a macvtap as an ordinary interface would; what it receives comes in.
    _limit(net._replace(rx=net.tx, tx=net.rx), name, folder, undo)
    return queues


def _macvtap_node(name: str, folder: str, undo: contextlib.ExitStack) -> str:
    """A node of our own: udev's may come later, or name the interface of another network namespace."""
    index = socket.if_nametoindex(name)
    try:
        with open(f"/sys/class/net/{name}/tap{index}/dev", encoding="ascii") as file:  # noqa: PTH123  pathlib costs start-up time
            major, minor = map(int, file.read().split(":"))
        path = f"{folder}/macvtap"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(major, minor))
    except (OSError, ValueError) as exc:
        raise NetworkRefused(f"net.interface: {name}: its device cannot be opened: {exc}") from None
    undo.callback(os.unlink, path)
    return path


def _tap(name: str, queues: int, undo: contextlib.ExitStack) -> tuple[int, ...]:
    return tuple(_queue(TUN, name, queues, undo) for _ in range(queues))


def _queue(node: str, name: str, queues: int, undo: contextlib.ExitStack) -> int:
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | (_IFF_MULTI_QUEUE if queues > 1 else 0)
    try:
        descriptor = _closed_later(os.open(node, os.O_RDWR | os.O_CLOEXEC), undo)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode("ascii"), flags))
    except OSError as exc:
        raise NetworkRefused(f"net: {name}: {exc.strerror}", hint=_hints(name).get(exc.errno or 0)) from None
    return descriptor


def _hints(name: str) -> dict[int, str]:
    import errno

    return {
        errno.EPERM: f"it belongs to another user: ip tuntap add dev {name} mode tap user $USER",
        errno.EBUSY: "another VM has it open",
        errno.EINVAL: "it is no tap, or was made with another number of queues (multi_queue)",
        errno.ENOENT: "modprobe tun",
    }


def _mtu(name: str, net: Net) -> None:
    if net.mtu is not None:
        run_ip("link", "set", "dev", name, "mtu", str(net.mtu))


def _limit(net: Net, name: str, folder: str, undo: contextlib.ExitStack) -> None:
    if net.rx is None and net.tx is None:
        return
    if not may_make_interfaces():
        raise NetworkRefused(f"net: {name}: limits need CAP_NET_ADMIN", hint="start cvm as root, or take them out")
    helper = link_name(folder, HELPER)
    undo.callback(shaping.clear, name, helper)
    shaping.limit(name, helper, out=net.rx, back=net.tx)


def _closed_later(descriptor: int, undo: contextlib.ExitStack) -> int:
    undo.callback(os.close, descriptor)
    return descriptor


def _exists(name: str) -> bool:
    try:
        return socket.if_nametoindex(name) > 0
    except OSError:
        return False


def _remove(name: str) -> None:
    if _exists(name):
        with contextlib.suppress(NetworkRefused):
            run_ip("link", "del", "dev", name)


def _set_uid(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & stat.S_ISUID)
    except OSError:
        return False
