"""PID 1: the power button, when to leave, and what it does elsewhere."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from attest.attester import init
from attest.attester.power_button import PowerButton
from tests.fakes.guest import EndedPayload, Recorder


def _key(code: int, value: int) -> bytes:
    return struct.pack("qqHHi", 0, 0, 1, code, value) + struct.pack("qqHHi", 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("events", "pressed"),
    [(_key(116, 1), True), (_key(116, 0), False), (_key(30, 1), False), (_key(116, 1)[:20], False), (b"", False)],
)
def test_the_power_button_is_told_from_other_keys(tmp_path: Path, events: bytes, pressed: bool) -> None:
    (tmp_path / "event0").write_bytes(_key(30, 1))
    (tmp_path / "event1").write_bytes(events)
    button = PowerButton(tmp_path)
    assert button.pressed() is pressed
    assert button.pressed() is False


class Button(PowerButton):
    """Pressed at the n-th look."""

    def __init__(self, at: int) -> None:
        self.looks = 0
        self.at = at

    def pressed(self) -> bool:
        self.looks += 1
        return self.looks == self.at


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """PID 1 without children unless the test puts answers of ``reap`` into the list."""
    children: list[bool] = []
    monkeypatch.setattr(init, "reap", lambda except_pid=0, besides=0: children.pop(0) if children else False)
    monkeypatch.setattr(init.time, "sleep", lambda seconds: None)
    return children


def _stands_by(code: int | None, at: int, *, leave: bool, later: int | None = None, payload: bool = True) -> Recorder:
    recorder = Recorder()
    running = EndedPayload(later) if payload else None
    init.Supervisor(recorder.status, Button(at)).stand_by(running, code, leave=leave)
    return recorder


def test_a_guest_leaves_when_its_payload_has_ended_and_nothing_else_runs(alone: list[bool]) -> None:
    assert _stands_by(0, -1, leave=False).console == b""


def test_a_service_the_payload_left_behind_keeps_the_guest_up(alone: list[bool]) -> None:
    alone += [True] * 6
    _stands_by(0, -1, leave=False)
    assert alone == []


def test_a_guest_that_is_told_to_leave_does_not_wait_for_what_is_left(alone: list[bool]) -> None:
    alone += [True] * 6
    _stands_by(0, -1, leave=True)
    assert len(alone) == 6


@pytest.mark.parametrize("payload", [True, False])
def test_the_power_button_ends_a_guest_that_would_stay(alone: list[bool], payload: bool) -> None:
    assert b"power button" in _stands_by(None, 3, leave=False, payload=payload).console


def test_a_payload_that_fails_later_is_told(alone: list[bool]) -> None:
    assert _stands_by(None, -1, leave=False, later=2).names == ["failed"]


def test_init_does_nothing_unless_it_is_the_first_process(repo: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "attest.attester.init"], cwd=repo, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "first process" in done.stderr) == (2, True)
