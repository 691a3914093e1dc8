"""``cvm throttle``: what it asks the launcher, what the launcher does with it, and what both refuse."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.cli import main, throttle
from launcher.core.storage import Limit, Throttle
from launcher.core.vm import Disk, SharedThrottle
from launcher.errors import WrongState
from launcher.io.qmp import Qmp
from launcher.service import live
from launcher.service.live import LiveMalformed
from launcher.service.planning import Prepared
from tests.unit.launcher.storage.test_rules import ordinary

LIMITS = Throttle((Limit(500), *(Limit(),) * 5))


class Monitor:
    """Keeps what is set, as QEMU's objects do."""

    def __init__(self) -> None:
        self.objects = {"limits-a": LIMITS.qapi(), "group-t": Throttle().qapi()}

    def execute(self, command: str, **arguments: Any) -> Any:
        name = arguments["path"].removeprefix("/objects/")
        if command == "qom-get":
            return dict(self.objects[name])
        assert command == "qom-set"
        self.objects[name] = arguments["value"]
        return {}


class Fixed(Qmp):
    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    def execute(self, command: str, /, **arguments: object) -> Any:
        return self.monitor.execute(command, **arguments)


def asked(about: dict[str, Any], *disks: Disk) -> tuple[dict[str, Any], Monitor]:
    plan = ordinary(*(disks or (Disk("/a", "a", throttle=LIMITS), Disk("/b", "b"))))
    spec = plan.spec._replace(throttles=(SharedThrottle("t", Throttle()),)) if not disks else plan.spec
    monitor = Monitor()
    prepared = Prepared(None, plan._replace(spec=spec), None)  # type: ignore[arg-type]  # its plan alone is looked at
    return live.throttle(prepared, Fixed(monitor), about), monitor


def test_without_a_wish_all_limits_are_shown() -> None:
    answer, _ = asked({})
    assert [(item["object"], item["disks"]) for item in answer["groups"]] == [("group-t", []), ("limits-a", ["a"])]
    assert answer["groups"][1]["limits"]["iops-total"] == 500


def test_a_change_keeps_what_it_does_not_name() -> None:
    _, monitor = asked({"object": "limits-a", "changes": {"bps-read": 1 << 20}})
    assert (monitor.objects["limits-a"]["iops-total"], monitor.objects["limits-a"]["bps-read"]) == (500, 1 << 20)
    _, monitor = asked({"object": "limits-a", "changes": {"bps-read": 1 << 20}, "off": True})
    assert (monitor.objects["limits-a"]["iops-total"], monitor.objects["limits-a"]["bps-read"]) == (0, 1 << 20)


@pytest.mark.parametrize(
    "changes",
    [{"iops-read": 5}, {"x": 1}, {"iops-total": -1}, {"iops-total": True}, {"bps-total": 10**16},
     {"bps-read-max": 7}, {"iops-total-max-length": 0}, None, []],
)  # fmt: skip
def test_limits_that_contradict_are_refused_and_nothing_is_set(changes: object) -> None:
    with pytest.raises(LiveMalformed, match="limits"):
        asked({"object": "limits-a", "changes": changes})


@pytest.mark.parametrize("name", ["limits-b", "monitor", "", None])
def test_only_the_vms_own_groups_can_be_named(name: object) -> None:
    with pytest.raises(WrongState, match="no limits for"):
        asked({"object": name, "changes": {}})


def test_a_vm_without_limits_has_none_to_change() -> None:
    with pytest.raises(WrongState, match="none of its disks has limits"):
        asked({}, Disk("/a", "a"))


@pytest.mark.parametrize(
    "words",
    [["--iops-total", "5"], ["--off"], ["--disk", "a"], ["--disk", "a", "--iops-total", "x"],
     ["--disk", "a", "--bps-total", "5"], ["--disk", "a", "--iops-total", "1" * 30]],
)  # fmt: skip
def test_words_that_make_no_sense_are_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["throttle", "vm", *words]) == 2
    assert "want" in capsys.readouterr().err


def test_a_vm_that_is_not_there_is_not_found(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVM_STATE", str(tmp_path))
    assert main(["throttle", "vm"]) == 10


def test_options_become_members_and_limits_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[dict[str, object]] = []

    def fake(name: str, about: dict[str, object]) -> list[dict[str, Any]]:
        seen.append({"name": name, **about})
        return [{"object": "limits-a", "disks": ["a"], "limits": Throttle().changed({"bps-read": 1 << 20}).qapi()}]

    monkeypatch.setattr(throttle, "throttle_vm", fake)
    assert main(["throttle", "vm", "--disk", "a", "--bps-read", "1MiB", "--bps-read-burst", "2MiB",
                 "--bps-read-burst-seconds", "9", "--iops-total", "0"]) == 0  # fmt: skip
    changes = {"iops-total": 0, "bps-read": 1 << 20, "bps-read-max": 2 << 20, "bps-read-max-length": 9}
    assert seen == [{"name": "vm", "object": "limits-a", "changes": changes, "off": False}]
    assert capsys.readouterr().out.split() == ["limits-a", "bps-read", "1MiB", "a"]
