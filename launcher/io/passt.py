"""passt: user-mode networking in a process of its own, so that QEMU needs no sockets. It confines itself (passt(1)).

QEMU and passt share a pair of sockets that exists before either starts; when QEMU closes its end, passt ends.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from launcher.core.cmdline import GATEWAY, GUEST_ADDRESS, NAME_SERVER
from launcher.core.network import Forward, Net
from launcher.io.iproute import NetworkRefused
from launcher.io.process import end, spawn
from launcher.io.tail import last_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.io.process import Child

LOG = "passt.log"
_PATIENCE = 10.0


@contextmanager
def passt(net: Net, folder: str) -> Iterator[tuple[int, ...]]:
    """QEMU's end of the pair, while passt runs. Raises :class:`NetworkRefused`."""
    program = shutil.which("passt")
    if program is None:
        raise NetworkRefused("net.backend: no program passt here", hint='apt install passt, or backend = "slirp"')
    ours, theirs = socket.socketpair()
    with ours:
        with tempfile.TemporaryDirectory(prefix="cvm-passt-") as place:
            ready = _place(place)
            with theirs:
                child = _start((program, *arguments(net, theirs.fileno(), ready)), folder, theirs.fileno())
            try:
                _wait(child, ready, folder)
            except BaseException:
                end(child)
                raise
        try:
            yield (ours.fileno(),)
        finally:
            end(child)


def _place(folder: str) -> str:
    """Where passt says that it is ready: as root it becomes ``nobody``, who can write nowhere else."""
    if os.geteuid() == 0:
        found = pwd.getpwnam("nobody")
        os.chown(folder, found.pw_uid, found.pw_gid)
    return f"{folder}/pid"


def arguments(net: Net, descriptor: int, ready: str) -> tuple[str, ...]:
    """The guest sees the same addresses as with QEMU's own NAT, so nothing measured depends on the choice."""
    address, _, prefix = GUEST_ADDRESS.partition("/")
    mtu = ("--mtu", str(net.mtu)) if net.mtu is not None else ()
    return (
        "--foreground", "--quiet", "--stderr", "--ipv4-only", "--fd", str(descriptor), "--pid", ready,
        "--address", address, "--netmask", prefix, "--gateway", GATEWAY, "--dns-forward", NAME_SERVER, *mtu,
        *_forwards("--tcp-ports", [item for item in net.forward if item.protocol == "tcp"]),
        *_forwards("--udp-ports", [item for item in net.forward if item.protocol == "udp"]),
    )  # fmt: skip


def _forwards(option: str, items: list[Forward]) -> tuple[str, ...]:
    if not items:
        return (option, "none")
    return tuple(word for item in items for word in (option, f"{item.host}/{item.host_port}:{item.guest_port}"))


def _start(command: tuple[str, ...], folder: str, descriptor: int) -> Child:
    with open(f"{folder}/{LOG}", "ab", buffering=0) as log:  # noqa: PTH123  pathlib costs start-up time
        try:
            return spawn(command, cwd=folder, env={}, stderr=log, keep=(descriptor,))
        except OSError as exc:
            raise NetworkRefused(f"net.backend: {command[0]}: {exc.strerror}") from None


def _wait(child: Child, ready: str, folder: str) -> None:
    """It writes its number when its ports are bound."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if child.poll() is not None:
            words = "; ".join(last_lines(f"{folder}/{LOG}", 3)) or "it said nothing"
            raise NetworkRefused(f"net.backend: passt ended with status {child.poll()}: {words}")
        with contextlib.suppress(OSError):
            if os.stat(ready).st_size:
                return
        time.sleep(0.01)
    raise NetworkRefused(f"net.backend: passt was not ready in {_PATIENCE:g} s")
