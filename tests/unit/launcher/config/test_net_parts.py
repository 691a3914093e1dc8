"""``[[net]]`` and ``[vsock]``: each rule broken alone."""

from __future__ import annotations

import pytest

from launcher.config.vm_toml import parse_vm
from launcher.core.network import Guest, Net, Rate, Vsock, default_burst, default_mac, first_cid
from launcher.core.vm import VmConfig
from launcher.errors import VmConfigInvalid
from tests.fakes.vm_files import PLAIN, WEB_1

BRIDGE = 'kind = "bridge"\nbridge = "br0"\n'
TAP = 'kind = "tap"\ninterface = "tap0"\n'


def parsed(net: str, more: str = "") -> VmConfig:
    return parse_vm(f"{PLAIN}\n[[net]]\n{net}\n{more}".encode(), "vm.toml")


def network(net: str) -> Net:
    found = parsed(net).net
    assert found is not None
    return found


def test_a_bridge_with_everything_is_read() -> None:
    found = network(
        BRIDGE + 'mac = "52:54:00:00:00:0a"\nmtu = 9000\nqueues = 4\nrx_rate = "100Mbit"\nrx_burst = "128KiB"\n'
        'tx_rate = "1Gbit"\naddress = "192.0.2.10/24"\ngateway = "192.0.2.1"\ndns = "192.0.2.2"'
    )
    assert found == Net(
        kind="bridge", bridge="br0", mac="52:54:00:00:00:0a", mtu=9000, queues=4, rx=Rate(100_000_000, 128 << 10),
        tx=Rate(10**9, 1_250_000), guest=Guest("192.0.2.10/24", "192.0.2.1", "192.0.2.2"),
    )  # fmt: skip


def test_the_address_of_the_interface_follows_from_the_name_and_is_one_stations() -> None:
    mac = network('kind = "user"').mac or ""
    assert mac == default_mac("plain") != default_mac("plain2")
    assert int(mac[:2], 16) & 3 == 2, "locally administered, unicast"


def test_no_network_may_be_said() -> None:
    assert parsed('kind = "none"').net is None


def test_a_burst_is_never_smaller_than_what_a_guest_may_send_at_once() -> None:
    assert default_burst(64_000) == 1 << 16


@pytest.mark.parametrize(
    ("net", "problem"),
    [
        ('kind = "none"\nmtu = 1500', r'net\[0\]\.mtu: kind "none" is no network'),
        ('kind = "tap"', r'interface: missing: kind "tap" needs it'),
        ('kind = "bridge"', r'bridge: missing: kind "bridge" needs it'),
        ('kind = "macvtap"', r'interface: missing: kind "macvtap" needs it'),
        ('kind = "user"\ninterface = "eth0"', r'interface: kind "user" has none'),
        (TAP + 'bridge = "br0"', r'bridge: kind "tap" has none'),
        (TAP + 'forward = ["tcp::1-:2"]', r'forward: kind "tap" is on a wire'),
        (TAP + 'backend = "passt"', r'backend: is of kind "user"'),
        ('kind = "user"\nbackend = "vde"', r"backend: got 'vde'"),
        ('kind = "tap"\ninterface = "-all"', r"interface: got '-all', want an interface's name"),
        ('kind = "tap"\ninterface = "a/../b"', r"interface: got"),
        ('kind = "tap"\ninterface = "a234567890123456"', r"at most 15"),
        ('kind = "user"\nrx_rate = "1Mbit"', r"rx_rate: cannot be enforced with slirp"),
        ('kind = "user"\nbackend = "passt"\ntx_rate = "1Mbit"', r"tx_rate: cannot be enforced with passt"),
        (TAP + 'rx_rate = "1MB"', r"rx_rate: got '1MB', want 64kbit to 400Gbit"),
        (TAP + 'rx_rate = "63kbit"', r"rx_rate: got"),
        (TAP + 'rx_rate = "1Mbit"\nrx_burst = "1KiB"', r"rx_burst: got '1KiB', want 64KiB"),
        (TAP + 'rx_burst = "64KiB"', r"rx_burst: comes with rx_rate"),
        (TAP + 'mac = "01:00:00:00:00:01"', r"mac: got"),
        (TAP + 'mac = "02:00:00:00:00:0G"', r"mac: got"),
        (TAP + "mtu = 100", r"mtu: got 100, want 576 to 65521"),
        (TAP + "queues = 17", r"queues: got 17, want 1 to 16"),
        ('kind = "user"\nqueues = 2', r"queues: slirp has one queue"),
        (TAP + 'model = "e1000"\nqueues = 2', r"queues: QEMU's e1000 has one queue"),
        (TAP + 'model = "e1000e"\nmtu = 1400', r"mtu: e1000e cannot tell its guest"),
        (TAP + 'model = "rtl8139"', r"model: got 'rtl8139'"),
        (TAP + 'gateway = "192.0.2.1"', r"gateway: comes with address"),
        (TAP + 'address = "192.0.2.10/31"\ngateway = "192.0.2.1"', r"address: got"),
        (TAP + 'address = "192.0.2.010/24"\ngateway = "192.0.2.1"', r"address: got"),
        (TAP + 'address = "192.0.2.10/24"\ngateway = "nowhere"', r"gateway: got 'nowhere'"),
        (TAP + 'address = "192.0.2.10/24"', r"gateway: missing"),
        ('kind = "user"\naddress = "192.0.2.10/24"\ngateway = "192.0.2.1"', r"gives the guest its address"),
    ],
)
def test_a_network_that_cannot_be_is_refused_by_its_key(net: str, problem: str) -> None:
    with pytest.raises(VmConfigInvalid, match=problem):
        parsed(net)


def test_a_guest_that_attests_on_a_wire_needs_its_address_in_the_measured_command_line() -> None:
    text = WEB_1.format(platform="sev-snp").replace('kind = "user"\nforward = ["tcp:127.0.0.1:2222-:22"]', BRIDGE)
    with pytest.raises(VmConfigInvalid, match=r"net\[0\]\.address: missing"):
        parse_vm(text.encode(), "vm.toml")


def test_a_vsock_device_gets_an_address_or_the_one_it_asks_for() -> None:
    assert parsed('kind = "none"', "[vsock]").vsock == Vsock(None)
    assert parsed('kind = "none"', "[vsock]\ncid = 42").vsock == Vsock(42)
    assert 3 <= first_cid("plain") < 0xFFFFFFFF


@pytest.mark.parametrize("cid", [0, 2, 0xFFFFFFFF])
def test_a_vsock_address_of_somebody_else_is_refused(cid: int) -> None:
    with pytest.raises(VmConfigInvalid, match=r"vsock\.cid: got"):
        parsed('kind = "none"', f"[vsock]\ncid = {cid}")
