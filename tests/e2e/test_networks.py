"""The real guest image on a bridge in a network namespace of the test's own: it is reached, and its QEMU has no network."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import time
from pathlib import Path

import pytest

from launcher.cli import main
from launcher.io.cachedir import cache_folder
from launcher.io.toolchain import ToolchainMissing, find_toolchain
from tests.fakes.namespaces import ip, own_network

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="interfaces of one's own need root"),
]
VM = """
schema = 1
name = "bridged"
platform = "none"
memory = "512MiB"
[boot]
kernel = "{image}/vmlinuz"
initrd = "{image}/initrd.zst"
[[net]]
kind = "bridge"
bridge = "br0"
address = "10.77.0.2/24"
gateway = "10.77.0.1"
rx_rate = "100Mbit"
tx_rate = "100Mbit"
"""


def test_a_guest_on_a_bridge_answers_and_its_qemu_has_no_network_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = cache_folder() / "image"
    if not (image / "manifest.json").is_file():
        pytest.skip("no guest image in the cache: `make test` builds it")
    try:
        find_toolchain()
    except ToolchainMissing as exc:
        pytest.skip(exc.message)
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))
    (tmp_path / "vm.toml").write_text(VM.format(image=image))
    with own_network():
        ip("link add br0 type bridge", "addr add 10.77.0.1/24 dev br0", "link set br0 up")
        assert main(["launch", str(tmp_path / "vm.toml"), "--detach", "--json"]) == 0, capsys.readouterr().err
        try:
            assert pinged("10.77.0.2", 120)
            state = json.loads((tmp_path / "state/bridged/state.json").read_text())
            shown = Path(f"/proc/{state['qemu']['pid']}/net/dev").read_text().splitlines()[2:]
            assert [line.split(":")[0].strip() for line in shown] == ["lo"]
            capsys.readouterr()
            assert main(["throttle", "bridged", "--net", "--tx-rate", "20Mbit", "--json"]) == 0
            limits = json.loads(capsys.readouterr().out)["net"]
            assert (limits["rx"][0], limits["tx"][0]) == (100_000_000, 20_000_000)
        finally:
            main(["stop", "bridged"])
        ports = os.listdir("/proc/sys/net/ipv4/conf")
        assert not [name for name in ports if name.startswith("cvm")]


def pinged(address: str, seconds: float) -> bool:
    """Whether ``address`` answers an ICMP echo of 1000 bytes within that time."""
    head, body = struct.pack("!BBHHH", 8, 0, 0, 77, 1), bytes(1000)
    total = sum(struct.unpack(f"!{len(head + body) // 2}H", head + body))
    checksum = ~(total + (total >> 16)) & 0xFFFF
    echo = head[:2] + struct.pack("!H", checksum) + head[4:] + body
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.settimeout(1)
        while time.monotonic() < deadline:
            try:
                raw.sendto(echo, (address, 0))
                answer, (sender, _) = raw.recvfrom(2000)
            except OSError:
                continue
            if sender == address and answer[20] == 0:
                return True
    return False
