"""What a VM's life looks like as events, and one command to its monitor: launchers as processes, with a fake QEMU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from launcher.cli import main
from launcher.cli.events import line_of
from launcher.core.event_schema import event_schema
from launcher.core.plan import make_plan
from launcher.service import live
from launcher.service.passthrough_qmp import QmpNotAllowed
from launcher.service.planning import Prepared
from tests.fakes.vm_files import around, web_1
from tests.unit.launcher.core.test_refusals import PLAIN_CONFIG
from tests.unit.launcher.io.test_hardware_live import running
from tests.unit.launcher.service.conftest import Scene
from tests.unit.launcher.service.test_launching import KERNEL, status
from tests.unit.launcher.service.test_lifecycle import lifecycle
from tests.unit.launcher.service.test_lives import UP, recorded, start
from tests.until import until


def events(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["events", *words, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def _said(found: list[dict[str, Any]]) -> list[str]:
    return [f"{event['source']}:{event['event']}" for event in found]


def test_an_attested_vms_life_is_told_in_order(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(
        KERNEL, status("booted"), status("attested", status="affirming"), status("unlocked", disk="disk0"),
        status("payload-output", text="secret"), status("running"), ["exit", 0], platform="emulated-snp",
    )  # fmt: skip
    assert main(["launch", str(path), "--quiet"]) == 0
    found = events(capsys, recorded(path)["name"])
    told = [word for word in _said(found) if word != "qemu:SHUTDOWN"]
    wanted = ["launcher:launch", "guest:booted", "guest:attested", "guest:unlocked", "guest:running", "launcher:end"]
    assert [word for word in told if word in wanted] == wanted
    assert "secret" not in json.dumps(found)
    valid = jsonschema_rs.validator_for(event_schema())
    assert all(valid.is_valid(event) for event in found)
    assert not valid.is_valid({**found[0], "more": 1})
    assert not valid.is_valid({**found[0], "source": "somebody"})
    assert found[0]["detail"]["expected_measurement"]
    assert found[-1]["detail"]["outcome"] == "attested"


def test_a_restart_is_told_between_two_launches_and_both_stay(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = lifecycle(
        scene(KERNEL, ["event", "BLOCK_IO_ERROR", {"device": "disk0"}], ["exit", 1]),
        'restart = "on-failure"\nretries = 1\nbackoff_seconds = 1',
    )
    assert main(["launch", str(path), "--quiet"]) == 9
    launcher = [event for event in events(capsys) if event["source"] == "launcher"]
    assert [event["event"] for event in launcher] == ["launch", "end", "restart", "launch", "end"]
    assert launcher[2]["detail"] == {"try": 1, "in_seconds": 1}
    assert "qemu:BLOCK_IO_ERROR" in _said(events(capsys))


def test_a_launch_that_fails_to_start_is_told(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(["refuse-to-start", "no such machine"])
    assert main(["launch", str(path), "--quiet"]) == 9
    found = events(capsys)
    assert _said(found) == ["launcher:launch", "launcher:failed-to-start"]
    assert "no such machine" in found[1]["detail"]["reason"]


def test_what_operators_do_is_told_and_followed_as_it_happens(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_QEMU_POWER", "obey")
    path = scene(*UP, platform="emulated-snp")
    launcher = start(path)
    name = path.stem
    argv = (sys.executable, "-m", "launcher", "events", "--json", "--follow")
    follower = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    out = follower.stdout
    assert out is not None
    try:
        until(lambda: recorded(path)["state"] == "running")
        assert main(["pause", name]) == 0
        assert main(["resume", name]) == 0
        assert main(["qmp", name, "query-status"]) == 0
        assert json.loads(capsys.readouterr().out.rpartition("resumed")[2].splitlines()[-1]) == {}
        assert main(["qmp", name, "dump-guest-memory"]) == 10
        assert "qmp.memory" in capsys.readouterr().err
    finally:
        launcher.terminate()
        launcher.communicate()
    seen: list[str] = []
    while "launcher:end" not in seen:
        event = json.loads(out.readline())
        seen.append(f"{event['source']}:{event['event']}")
    follower.terminate()
    follower.communicate()
    operator = [word for word in seen if word.startswith("operator:")]
    assert operator == ["operator:pause", "operator:resume"]
    assert _said(events(capsys)) == seen


def test_an_unknown_vm_has_no_events_and_no_vm_has_none(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del machine
    assert main(["events", "nobody"]) == 10
    assert events(capsys) == []


def test_arguments_that_are_no_object_are_refused(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del machine
    for text in ("[]", "{", '{"a":1,"a":2}'):
        assert main(["qmp", "vm-1", "query-status", text]) == 5
        assert "arguments" in capsys.readouterr().err


def test_a_line_for_people_shows_no_escape_of_a_guest() -> None:
    text = line_of(
        {"time": "2026", "vm": "v", "source": "guest", "event": "e\x1b[2J", "detail": {"kernel": "\u202ex", "n": 1}}
    )
    assert text == "2026  v  guest: e\\x1b[2J (kernel \\u202ex, n 1)"


@pytest.mark.qemu
def test_a_real_qemu_answers_questions_and_changes_only_an_ordinary_vm(tmp_path: Path) -> None:
    plain = Prepared(PLAIN_CONFIG, make_plan(PLAIN_CONFIG, around(firmware=None)), None)
    confidential = Prepared(web_1(), make_plan(web_1(), around()), None)
    with running(tmp_path) as qemu:
        for prepared in (plain, confidential):
            answer = live.qmp(prepared, qemu.qmp, {"command": "query-status"})
            assert isinstance(answer["value"], dict)
            assert answer["value"]["running"] is True
            schema = live.qmp(prepared, qemu.qmp, {"command": "query-qmp-schema"})["value"]
            assert isinstance(schema, list)
            assert len(schema) > 100
        about = {"command": "qom-get", "arguments": {"path": "/machine", "property": "type"}, "change": True}
        assert live.qmp(plain, qemu.qmp, about)["value"] == f"{plain.plan.spec.machine_type}-machine"
        with pytest.raises(QmpNotAllowed, match=r"qmp\.objects"):
            live.qmp(confidential, qemu.qmp, about)


def test_both_schemas_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--of", "event"]) == 0
    assert json.loads(capsys.readouterr().out) == event_schema()
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "cvm VM file"


@pytest.mark.parametrize(
    ("word", "about", "told"),
    [
        ("throttle", {}, False), ("throttle", {"object": "limits-data", "changes": {"iops-total": 5}}, True),
        ("net", {}, False), ("net", {"rx": [1000000, None]}, True),
        ("memory", {}, False), ("memory", {"size": 1 << 30}, True),
        ("snapshot", {"do": "list", "name": ""}, False), ("snapshot", {"do": "create", "name": "a"}, True),
        ("qmp", {"command": "query-block"}, False), ("qmp", {"command": "block_resize"}, True),
        ("disks", {}, False),
    ],
)  # fmt: skip
def test_only_what_changes_a_vm_is_told_and_not_every_look_at_it(word: str, about: dict[str, Any], told: bool) -> None:
    assert word in live.COMMANDS
    assert live.changes(word, about) is told
