"""Taps, bridges and limits in a network namespace of the test's own, with a raw peer at the other end of the cable."""

from __future__ import annotations

import os
import select
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.core.network import Forward, Net, Rate
from launcher.io import netdev, shaping
from launcher.io.iproute import NetworkRefused
from launcher.io.netdev import link_name, wire
from launcher.io.passt import passt
from launcher.io.vsock import TRIES, open_vsock
from tests.fakes.namespaces import VNET_HEADER, bridge_and_peer, frame, ip, raw_socket

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="interfaces of one's own need root and iproute2"
)
VM, PEER = "02:00:00:00:00:01", "02:00:00:00:00:02"
BRIDGED = Net(kind="bridge", bridge="br0", mac=VM)
FOLDER = "/state/web-1"


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with bridge_and_peer() as found:
        yield found


def received(tap: int, payload: bytes, seconds: float = 5.0) -> bool:
    """Whether a frame with that payload comes out of the tap."""
    deadline = time.monotonic() + seconds
    while select.select([tap], [], [], max(0.0, deadline - time.monotonic()))[0]:
        if os.read(tap, 70000).endswith(payload):
            return True
    return False


def test_frames_pass_through_the_bridge_both_ways_and_the_interface_is_gone_afterwards(peer: socket.socket) -> None:
    with wire(BRIDGED._replace(mtu=1400), FOLDER) as (tap,):
        os.write(tap, VNET_HEADER + frame(PEER, VM, b"from the VM"))
        assert peer.recv(2000).endswith(b"from the VM")
        peer.send(frame(VM, PEER, b"to the VM"))
        assert received(tap, b"to the VM")
        shown = subprocess.run(["ip", "link", "show", link_name(FOLDER)], capture_output=True, text=True, check=True)
        assert "mtu 1400" in shown.stdout and "master br0" in shown.stdout
    with pytest.raises(OSError, match="no interface"):
        socket.if_nametoindex(link_name(FOLDER))


def test_every_queue_is_a_descriptor(peer: socket.socket) -> None:
    with wire(BRIDGED._replace(queues=4), FOLDER) as queues:
        assert len(set(queues)) == 4


def test_an_existing_tap_is_used_and_stays(peer: socket.socket) -> None:
    ip("tuntap add dev mine mode tap user 12345", "link set mine master br0", "link set mine up")
    with wire(Net(kind="tap", interface="mine"), FOLDER) as (tap,):
        os.set_blocking(tap, False)
        assert throughput(tap, peer, sends=True, seconds=2) > 0  # a bridge notices a cable with some delay
    assert socket.if_nametoindex("mine")


@pytest.mark.parametrize(
    ("net", "problem"),
    [
        (Net(kind="tap", interface="absent"), "net.interface: absent: no such interface"),
        (Net(kind="bridge", bridge="absent"), "net.bridge: absent: no such interface"),
        (Net(kind="macvtap", interface="absent"), "net.interface: absent: no such interface"),
        (Net(kind="tap", interface="peer"), "net: peer: Invalid argument"),
        (
            Net(kind="bridge", bridge="peer"),
            "net: ip link set dev cvm.* master peer: .*not a bridge|Operation not supp",
        ),
    ],
)
def test_what_is_not_there_or_is_something_else_is_named(net: Net, problem: str, peer: socket.socket) -> None:
    with pytest.raises(NetworkRefused, match=problem), wire(net, FOLDER):
        pass


def test_a_tap_that_another_vm_has_open_is_refused(peer: socket.socket) -> None:
    ip("tuntap add dev mine mode tap")
    net = Net(kind="tap", interface="mine")
    with wire(net, FOLDER), pytest.raises(NetworkRefused, match="busy") as caught, wire(net, "/state/other"):
        pass
    assert caught.value.hint == "another VM has it open"


def test_one_queue_of_a_tap_with_several_is_refused(peer: socket.socket) -> None:
    ip("tuntap add dev mine mode tap multi_queue")
    with pytest.raises(NetworkRefused, match="Invalid argument"), wire(Net(kind="tap", interface="mine"), FOLDER):
        pass


def throughput(tap: int, peer: socket.socket, *, sends: bool, seconds: float) -> float:
    """Bits per second of frames that arrive, after the bucket's first burst."""
    data = bytes(1400)
    outgoing, incoming = VNET_HEADER + frame(PEER, VM, data), frame(VM, PEER, data)
    os.set_blocking(tap, False)
    peer.setblocking(False)
    start, warm, count = time.monotonic(), 0.2, 0
    while (now := time.monotonic()) < start + warm + seconds:
        for _ in range(8):
            try:
                if sends:
                    os.write(tap, outgoing)
                else:
                    peer.send(incoming)
            except (BlockingIOError, OSError):
                break
        try:
            while True:
                size = len(peer.recv(2000)) if sends else len(os.read(tap, 2000)) - len(VNET_HEADER)
                count += size if now > start + warm else 0
        except BlockingIOError:
            pass
    return count * 8 / seconds


@pytest.mark.parametrize("sends", [True, False], ids=["sent", "received"])
def test_each_direction_has_its_own_limit_and_it_can_be_changed_while_it_runs(sends: bool, peer: socket.socket) -> None:
    rate = Rate(20_000_000, 1 << 16)
    net = BRIDGED._replace(tx=rate) if sends else BRIDGED._replace(rx=rate)
    with wire(net, FOLDER) as (tap,):
        limited = throughput(tap, peer, sends=sends, seconds=0.4)
        assert throughput(tap, peer, sends=not sends, seconds=0.3) > 2 * limited
        faster = Rate(80_000_000, 1 << 16)
        shaping.change(
            link_name(FOLDER), link_name(FOLDER, "cvmi"), out=None if sends else faster, back=faster if sends else None
        )
        assert throughput(tap, peer, sends=sends, seconds=0.4) > 2 * limited
    with pytest.raises(OSError, match="no interface"):
        socket.if_nametoindex(link_name(FOLDER, "cvmi"))


def test_a_limit_on_a_tap_that_stays_is_taken_off_again(peer: socket.socket) -> None:
    ip("tuntap add dev mine mode tap")
    with wire(Net(kind="tap", interface="mine", rx=Rate(10**6, 1 << 16), tx=Rate(10**6, 1 << 16)), FOLDER):
        assert "tbf" in qdiscs("mine")
    assert "tbf" not in qdiscs("mine") and "ingress" not in qdiscs("mine")


def qdiscs(name: str) -> str:
    return subprocess.run(["tc", "qdisc", "show", "dev", name], capture_output=True, text=True, check=True).stdout


MACVTAP = """
import os, sys
from launcher.core.network import Forward, Net, Rate
from launcher.io.netdev import wire
from tests.fakes.namespaces import VNET_HEADER, frame, ip, raw_socket
from tests.unit.launcher.io.test_netdev import received
ip("link add lower type veth peer name peer", "link set lower up", "link set peer up")
net = Net(kind="macvtap", interface="lower", mac="02:00:00:00:00:01", tx=Rate(10**9, 1 << 16))
with raw_socket("peer") as peer, wire(net, sys.argv[1]) as (tap,):
    os.write(tap, VNET_HEADER + frame("02:00:00:00:00:02", "02:00:00:00:00:01", b"from the VM"))
    assert peer.recv(2000).endswith(b"from the VM")
    peer.send(frame("02:00:00:00:00:01", "02:00:00:00:00:02", b"to the VM"))
    assert received(tap, b"to the VM")
assert not os.listdir(sys.argv[1])
print("passed")
"""


def test_a_macvtap_is_made_on_an_interface_and_removed(tmp_path: Path, repo: Path) -> None:
    mounted = 'mount -t sysfs none /sys && ip link set lo up && exec "$0" "$@"'
    command = ["unshare", "--net", "--mount", "sh", "-c", mounted, sys.executable, "-c", MACVTAP, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=repo, timeout=60)
    assert done.stdout == "passed\n", done.stderr


# Without privileges -----------------------------------------------------------------------------------------------


def test_without_privileges_the_hosts_helper_is_asked_and_hands_over_the_interface(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, peer: socket.socket
) -> None:
    """A stand-in with qemu-bridge-helper's arguments and answer: QEMU's own needs its set-uid bit and a rule in /etc."""
    helper, program = tmp_path / "helper", tmp_path / "helper.py"
    helper.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')  # a path in #! may hold no space
    program.write_text(
        "import os, socket, sys\n"
        "options = dict(word.removeprefix('--').partition('=')[::2] for word in sys.argv[1:])\n"
        "assert options['br'] == 'br0' and 'use-vnet' in options\n"
        "made = os.open('/dev/null', os.O_RDWR)\n"
        "socket.send_fds(socket.socket(fileno=int(options['fd'])), [b'\\0'], [made])\n"
    )
    helper.chmod(0o755 | stat.S_ISUID)
    monkeypatch.setattr(netdev, "BRIDGE_HELPERS", (str(helper),))
    monkeypatch.setattr(netdev, "may_make_interfaces", lambda: False)
    with wire(BRIDGED, FOLDER) as (tap,):
        assert os.readlink(f"/proc/self/fd/{tap}") == "/dev/null"
    for wanted in (BRIDGED._replace(queues=2), BRIDGED._replace(rx=Rate(10**6, 1 << 16)), BRIDGED._replace(mtu=1400)):
        with pytest.raises(NetworkRefused, match=r"CAP_NET_ADMIN, and .* need"), wire(wanted, FOLDER):
            pass


def test_without_privileges_and_without_the_helper_the_way_out_is_named(
    monkeypatch: pytest.MonkeyPatch, peer: socket.socket
) -> None:
    monkeypatch.setattr(netdev, "BRIDGE_HELPERS", ("/nowhere",))
    monkeypatch.setattr(netdev, "may_make_interfaces", lambda: False)
    with pytest.raises(NetworkRefused, match="no set-uid qemu-bridge-helper") as caught, wire(BRIDGED, FOLDER):
        pass
    assert 'kind = "user"' in (caught.value.hint or "")
    ip("tuntap add dev mine mode tap")
    limited = Net(kind="tap", interface="mine", rx=Rate(10**6, 1 << 16))
    with pytest.raises(NetworkRefused, match="limits need CAP_NET_ADMIN"), wire(limited, FOLDER):
        pass


# vsock -------------------------------------------------------------------------------------------------------------


def test_a_vsock_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NetworkRefused, match="No such file") as caught:
        open_vsock(3, exactly=False, device=str(tmp_path / "vhost-vsock"))
    assert caught.value.hint == "modprobe vhost_vsock"


class Kernel:
    """Answers VHOST_VSOCK_SET_GUEST_CID as vhost_vsock does."""

    def __init__(self, taken: set[int]) -> None:
        self.taken, self.asked = taken, list[int]()

    def __call__(self, descriptor: int, request: int, data: bytes) -> None:
        assert (request, len(data)) == (0x4008AF60, 8)
        self.asked.append(int.from_bytes(data, sys.byteorder))
        if self.asked[-1] in self.taken:
            raise OSError(98, "Address already in use")


def test_the_first_vsock_address_nobody_has_is_taken_and_the_last_is_followed_by_the_first() -> None:
    kernel = Kernel({0xFFFFFFFE, 3})
    descriptor, cid = open_vsock(0xFFFFFFFE, exactly=False, device="/dev/null", ioctl=kernel)
    os.close(descriptor)
    assert (cid, kernel.asked) == (4, [0xFFFFFFFE, 3, 4])


def test_a_vsock_address_that_was_asked_for_is_not_exchanged_for_another() -> None:
    with pytest.raises(NetworkRefused, match=r"vsock\.cid: 9 is another VM's"):
        open_vsock(9, exactly=True, device="/dev/null", ioctl=Kernel({9}))


def test_the_search_for_a_vsock_address_ends() -> None:
    kernel = Kernel(set(range(3, 1000)))
    with pytest.raises(NetworkRefused, match="another VM's"):
        open_vsock(3, exactly=False, device="/dev/null", ioctl=kernel)
    assert len(kernel.asked) == TRIES


def test_raw_sockets_of_the_test_see_only_its_own_network(peer: socket.socket) -> None:
    with pytest.raises(OSError, match="No such device"):
        raw_socket("eth0")


# passt -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("passt") is None, reason="passt is not installed")
def test_passt_is_ready_when_its_forward_is_bound_and_ends_with_the_vm(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    net = Net(backend="passt", forward=(Forward("tcp", "127.0.0.1", port, 22),))
    with passt(net, str(tmp_path)) as (descriptor,):
        assert stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        with socket.create_connection(("127.0.0.1", port), 5):
            pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


@pytest.mark.skipif(shutil.which("passt") is None, reason="passt is not installed")
def test_a_port_that_is_taken_is_said_with_passts_own_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        net = Net(backend="passt", forward=(Forward("tcp", "127.0.0.1", taken.getsockname()[1], 22),))
        with (
            pytest.raises(NetworkRefused, match=r"passt ended with status 1: .*Failed to bind"),
            passt(net, str(tmp_path)),
        ):
            pass


def test_where_passt_is_not_installed_the_other_back_end_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NetworkRefused, match="no program passt") as caught, passt(Net(backend="passt"), str(tmp_path)):
        pass
    assert "slirp" in (caught.value.hint or "")
