"""``cvm diff``: what changes, and whether any evidence would tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from launcher.core.difference import events_changed, settings_changed
from launcher.core.network import Forward, Net
from launcher.core.vm import Cpu, Disk, SnpSettings, TdxSettings, VmConfig
from policy.measured import MeasuredEvent
from policy.vocab import Platform, ResourcePath
from tests.unit.launcher.service.conftest import Scene

Differ = Callable[..., dict[str, Any]]


@pytest.fixture
def differ(scene: Scene, capsys: pytest.CaptureFixture[str]) -> Differ:
    """``differ(change)``: the comparison of a VM file with itself after ``change(text)``."""

    def compare(change: Callable[[str], str]) -> dict[str, Any]:
        path = scene(platform="emulated-snp")
        other = path.with_name("other.toml")
        other.write_text(change(path.read_text()))
        assert main(["diff", str(path), str(other), "--json"]) == 0
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert main(["diff", str(path), str(other)]) == 0
        assert capsys.readouterr().out.startswith("vm-1 → ")
        return document

    return compare


def test_a_refusal_names_the_file_of_the_two(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(platform="emulated-snp")
    other = path.with_name("other.toml")
    other.write_text(path.read_text() + "\n[devices]\ntpm = true\n")
    assert main(["diff", str(path), str(other)]) == 3
    assert capsys.readouterr().err.startswith(f"cvm: {other}: refused for platform emulated-snp:\n  devices.tpm:")


def test_a_file_measures_the_same_as_itself(differ: Differ) -> None:
    found = differ(lambda text: text)
    assert found["same_measurement"] is True
    assert (found["inputs"], found["settings"], found["command_line"]) == ([], [], [])


def test_another_number_of_vcpus_is_measured(differ: Differ) -> None:
    found = differ(lambda text: text + "\n[cpu]\ncount = 3\n")
    assert found["same_measurement"] is False
    assert [item["what"] for item in found["inputs"]] == ["vCPUs"]
    assert [(item["what"], item["effect"]) for item in found["settings"]] == [("cpu.vcpus", "measured")]


def test_another_amount_of_memory_is_not_measured_by_the_chip(differ: Differ) -> None:
    found = differ(lambda text: text.replace("256MiB", "512MiB"))
    assert found["same_measurement"] is True
    assert [(item["what"], item["effect"]) for item in found["settings"]] == [("memory", "unmeasured")]


def test_a_guest_policy_switch_is_shown_but_not_measured(differ: Differ) -> None:
    found = differ(lambda text: text + "\n[snp]\nsingle_socket = true\n")
    assert found["same_measurement"] is True
    assert [(item["what"], item["effect"]) for item in found["settings"]] == [("snp.single_socket", "shown")]


def test_a_word_on_the_command_line_is_named(differ: Differ) -> None:
    found = differ(lambda text: text.replace('cmdline = ""', 'cmdline = "quiet"'))
    assert found["same_measurement"] is False
    assert found["command_line"] == [{"sign": "+", "word": "quiet"}]
    assert [item["what"] for item in found["inputs"]] == ["command line"]


def test_another_kernel_under_another_path_is_told_by_its_content(differ: Differ, machine: Path) -> None:
    (machine / "same").write_bytes(b"kernel" * 1000)
    found = differ(lambda text: text.replace('kernel = "kernel"', 'kernel = "same"'))
    assert found["same_measurement"] is True
    assert [(item["what"], item["effect"]) for item in found["settings"]] == [("boot.kernel", "unmeasured")]
    (machine / "same").write_bytes(b"another")
    assert differ(lambda text: text.replace('kernel = "kernel"', 'kernel = "same"'))["same_measurement"] is False


def test_two_ordinary_vms_have_no_measurement_to_compare(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(scene())
    assert main(["diff", path, path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same_measurement"] is None
    assert main(["diff", path, path]) == 0
    assert capsys.readouterr().out.startswith("vm-1 → vm-1: nothing measures them\n")


@pytest.mark.parametrize(
    ("change", "effect"),
    [
        ({"memory": 2 << 30}, "measured"),
        ({"cpu": Cpu(4)}, "measured"),
        ({"tdx": TdxSettings(mrowner=bytes([1]) * 48)}, "shown"),
        ({"tdx": TdxSettings(pks=True)}, "shown"),
        ({"tdx": TdxSettings(quote_socket=None)}, "unmeasured"),
        ({"name": "other"}, "unmeasured"),
    ],
)
def test_what_a_td_measures_shows_and_hides(change: dict[str, Any], effect: str) -> None:
    before = VmConfig("td-1", Platform.TDX, 1 << 30)
    assert {item.effect for item in settings_changed(before, before._replace(**change))} == {effect}


@pytest.mark.parametrize(("platform", "path"), [(Platform.TDX, "measured"), (Platform.SEV_SNP, "unmeasured")])
def test_a_disk_that_comes_is_measured_by_a_td_and_its_path_by_nobody(platform: Platform, path: str) -> None:
    before = VmConfig("vm-1", platform, 1 << 30, disks=(Disk("/a", "disk0"),))
    more = before._replace(disks=(Disk("/a", "disk0"), Disk("/b", "root", ResourcePath.parse("a/b/c"))))
    assert {item.what: item.effect for item in settings_changed(before, more)} == {
        "disks[1].name": "unmeasured", "disks[1].path": path, "disks[1].readonly": "unmeasured",
        "disks[1].resource": "measured",
    }  # fmt: skip
    moved = before._replace(disks=(Disk("/c", "disk0"),))
    assert [item.effect for item in settings_changed(before, moved)] == ["unmeasured"]


def test_a_network_that_comes_is_measured_and_its_forwards_are_not() -> None:
    before = VmConfig("vm-1", Platform.SEV_SNP, 1 << 30)
    plain = before._replace(net=Net())
    came = {item.what: item.effect for item in settings_changed(before, plain)}
    assert came.pop("net.kind") == "measured"
    assert set(came.values()) == {"unmeasured"}
    forwarding = before._replace(net=Net(forward=(Forward("tcp", "127.0.0.1", 2222, 22),)))
    assert {item.effect for item in settings_changed(plain, forwarding)} == {"unmeasured"}


def test_every_setting_of_the_chip_has_an_effect_of_its_own() -> None:
    before = VmConfig("vm-1", Platform.SEV_SNP, 1 << 30)
    after = before._replace(snp=SnpSettings(host_data=bytes([1]) * 32, guest_features=5, abi_min=(1, 51), debug=True))
    assert {item.what: item.effect for item in settings_changed(before, after)} == {
        "snp.abi_min[0]": "shown", "snp.abi_min[1]": "shown", "snp.debug": "shown", "snp.host_data": "shown",
        "snp.guest_features": "measured",
    }  # fmt: skip


def test_events_that_changed_came_or_went_are_named_with_their_register() -> None:
    def event(register: int, name: str, byte: int) -> MeasuredEvent:
        return MeasuredEvent(register=register, type=1, digest=bytes([byte]) * 48, name=name, detail="", proven=True)

    before = [event(0, "td-hob", 1), event(1, "kernel", 2)]
    after = [event(0, "td-hob", 9), event(1, "kernel", 2), event(2, "cmdline", 3)]
    assert [(item.what, item.before == "-") for item in events_changed(before, after)] == [
        ("RTMR0 td-hob", False), ("RTMR2 cmdline", True),
    ]  # fmt: skip
