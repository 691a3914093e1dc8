"""Every option is carried out for an ordinary VM and refused for a confidential one, by its id; one option per case."""

from __future__ import annotations

import pytest

from launcher.config.vm_toml import parse_vm
from launcher.core.hardware import GROUP, Devices, NumaNode, Passthrough, Ram, Share
from launcher.core.plan import make_plan
from launcher.core.refusals import OptionsRefused, refuse_options
from launcher.core.vm import VmConfig
from tests.fakes.vm_files import GENERIC, PLAIN, around, qemu, web_1

PLAIN_CONFIG = parse_vm(PLAIN.encode(), "plain.toml")
CASES: dict[str, dict[str, object]] = {
    "ram.huge-pages": {"ram": Ram(huge_pages=2 << 20)},
    "ram.prealloc": {"ram": Ram(prealloc=True)},
    "ram.merge": {"ram": Ram(merge=True)},
    "ram.balloon": {"ram": Ram(balloon=True)},
    "ram.free-page-reporting": {"ram": Ram(free_page_reporting=True)},
    "ram.hot-plug": {"ram": Ram(max=8 << 30)},
    "ram.virtio-mem": {"ram": Ram(max=8 << 30, grow="virtio-mem")},
    "numa.guest-nodes": {"numa": (NumaNode("0-3", 4 << 30),)},
    "devices.video": {"devices": Devices(video="std")},
    "devices.tpm": {"devices": Devices(tpm=True)},
    "shares.confidential": {"shares": (Share("/data", "data"),)},
}


def ids(config: VmConfig, *version: int) -> list[str]:
    with pytest.raises(OptionsRefused) as caught:
        refuse_options(config, qemu(*version))
    assert all(item.id in caught.value.message and item.why in caught.value.message for item in caught.value.refusals)
    return [item.id for item in caught.value.refusals]


@pytest.mark.parametrize("id_", CASES)
@pytest.mark.parametrize("platform", ["sev-snp", "tdx", "emulated-snp", "emulated-tdx"])
def test_a_confidential_vm_is_refused_exactly_that(id_: str, platform: str) -> None:
    assert ids(web_1(platform)._replace(**CASES[id_])) == [id_]


@pytest.mark.parametrize("id_", CASES)
def test_an_ordinary_vm_gets_it(id_: str) -> None:
    plain = make_plan(PLAIN_CONFIG, around(firmware=None)).options
    assert make_plan(PLAIN_CONFIG._replace(**CASES[id_]), around(firmware=None)).options != plain


def test_a_folder_is_shared_through_a_confined_daemon_only() -> None:
    config = PLAIN_CONFIG._replace(shares=(Share("/data", "data"),))
    off = config.isolation._replace(mode="off")
    assert ids(config._replace(isolation=off)) == ["shares.isolation-off"]
    with pytest.raises(OptionsRefused) as caught:
        refuse_options(config._replace(isolation=off), qemu())
    assert caught.value.hint == "leave them out", "it is an ordinary VM already"


@pytest.mark.parametrize("ram", [Ram(2 << 20, allow_double_memory=True), Ram(prealloc=True, allow_double_memory=True)])
def test_twice_the_memory_can_be_accepted_and_is_warned_of(ram: Ram) -> None:
    plan = make_plan(web_1()._replace(ram=ram), around())
    assert any("8192 MiB" in item.text for item in plan.warnings)


def test_a_td_has_one_socket_and_an_snp_guest_may_have_two() -> None:
    config = web_1("tdx")
    assert ids(config._replace(cpu=config.cpu._replace(sockets=2))) == ["cpu.sockets"]
    config = web_1()
    refuse_options(config._replace(cpu=config.cpu._replace(sockets=2)), qemu())


def test_passthrough_wants_iommufd_a_new_qemu_and_real_protection() -> None:
    config = web_1()._replace(passthrough=(Passthrough("0000:01:00.0"),))
    refuse_options(config, qemu())
    assert ids(config, 10, 0, 0) == ["passthrough.qemu"]
    assert ids(config._replace(passthrough=(Passthrough("0000:01:00.0", GROUP),))) == ["passthrough.group"]
    assert ids(web_1("emulated-snp")._replace(passthrough=config.passthrough)) == ["passthrough.emulated"]
    assert ids(PLAIN_CONFIG._replace(passthrough=(Passthrough("0000:01:00.0", GROUP),))) == [
        "passthrough.group-isolated"
    ]


def test_everything_is_refused_at_once() -> None:
    config = web_1("tdx")._replace(ram=Ram(merge=True, balloon=True), devices=Devices(video="std"))
    with pytest.raises(OptionsRefused) as caught:
        make_plan(config, around(firmware=GENERIC))
    assert [item.id for item in caught.value.refusals] == ["ram.merge", "ram.balloon", "devices.video"]
