"""``cvm throttle --net``: limits of a running VM's interface, on a real bridge in a network of the test's own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from launcher.cli import main
from launcher.config.vm_toml import parse_vm
from launcher.core.plan import make_plan
from launcher.errors import WrongState
from launcher.io.netdev import wire
from launcher.io.qmp import Qmp
from launcher.io.statedir import state_root
from launcher.service.net_limits import net_limits
from launcher.service.planning import Prepared
from policy.errors import MalformedInput
from tests.fakes.namespaces import ip, own_network
from tests.fakes.vm_files import PLAIN, around

NOBODY = cast(Qmp, None)
needs_root = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("tc") is None, reason="interfaces need root and tc")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))


def prepared(net: str) -> Prepared:
    config = parse_vm(f"{PLAIN}[[net]]\n{net}\n".encode(), "plain.toml")
    return Prepared(config, make_plan(config, around(firmware=None)), None)


@needs_root
@pytest.mark.parametrize("kind", ['kind = "bridge"\nbridge = "br0"', 'kind = "tap"\ninterface = "mine"'])
def test_limits_are_changed_and_told_as_the_kernel_has_them(kind: str) -> None:
    vm = prepared(f'{kind}\nrx_rate = "100Mbit"\ntx_rate = "50Mbit"')
    net = vm.config.net
    assert net is not None
    with own_network():
        ip("link add br0 type bridge", "tuntap add dev mine mode tap")
        with wire(net, f"{state_root()}/plain"):
            before = cast(dict[str, Any], net_limits(vm, NOBODY, {})["net"])
            assert (before["rx"][0], before["tx"][0]) == (100_000_000, 50_000_000)
            after = cast(dict[str, Any], net_limits(vm, NOBODY, {"rx": [8_000_000, 1 << 17]})["net"])
            assert after == {"rx": [8_000_000, 1 << 17], "tx": before["tx"]}
            assert cast(dict[str, Any], net_limits(vm, NOBODY, {"tx": [64_000, None]})["net"])["tx"][0] == 64_000


@pytest.mark.parametrize(
    ("net", "about", "said"),
    [
        ('kind = "user"', {}, "no interface on this host"),
        ('kind = "bridge"\nbridge = "br0"\nrx_rate = "1Gbit"', {"tx": [10**6, None]}, "no queue to change"),
    ],
)
def test_what_has_no_queue_has_no_limit_to_change(net: str, about: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongState, match=said):
        net_limits(prepared(net), NOBODY, about)


@pytest.mark.parametrize("value", [1, [1], [63_999, None], [10**12, None], [True, None], [10**6, 100], [10**6, "1"]])
def test_a_limit_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(MalformedInput, match="net: rx: "):
        net_limits(prepared('kind = "bridge"\nbridge = "br0"\nrx_rate = "1Gbit"'), NOBODY, {"rx": value})


@pytest.mark.parametrize(
    "words",
    [
        ["--rx-rate", "fast"],
        ["--rx-burst", "64KiB"],
        ["--rx-rate", "1Mbit", "--rx-burst", "9"],
        ["--iops-total", "5"],
        ["--off"],
    ],
)
def test_words_that_make_no_limit_are_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["throttle", "web-1", "--net", *words]) == 2
    assert capsys.readouterr().err
