"""A VM's events as a file: written by a launcher, read while it grows, bounded whatever the guest does."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from launcher.io import event_log
from launcher.io.event_log import MAX_CAUSED, MAX_DETAIL, EventLog
from launcher.io.event_reader import EventReader


def _names(reader: EventReader) -> list[str]:
    return [event["event"] for event in reader.read()]


def test_what_is_written_is_read_once_and_then_what_is_added(tmp_path: Path) -> None:
    log, reader = EventLog(str(tmp_path), "vm-1"), EventReader(str(tmp_path))
    assert _names(reader) == []
    log.put("launcher", "launch", {"restarts": 0})
    log.put("guest", "booted", {"kernel": "6.12\x1b[7m"}, 1.23456)
    first, second = reader.read()
    assert (first["schema"], first["vm"], first["seconds"], first["detail"]) == (
        "cvm.event/1", "vm-1", None, {"restarts": 0},
    )  # fmt: skip
    assert (second["source"], second["seconds"], second["detail"]["kernel"]) == ("guest", 1.235, "6.12\x1b[7m")
    assert _names(reader) == []
    log.put("launcher", "end", {})
    assert _names(reader) == ["end"]
    assert (tmp_path / "events.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_file_that_has_grown_is_moved_aside_and_nothing_is_read_twice_or_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "LIMIT", 2000)
    log, reader = EventLog(str(tmp_path), "vm-1"), EventReader(str(tmp_path))
    seen: list[str] = []
    for number in range(60):
        log.put("launcher", f"e{number}", {})
        if number % 7 == 0:
            seen += _names(reader)
    assert [*seen, *_names(reader)] == [f"e{number}" for number in range(60)]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 5000
    late = _names(EventReader(str(tmp_path)))
    assert late == [f"e{number}" for number in range(60 - len(late), 60)]


def test_a_guest_can_cause_so_many_events_in_a_launch_and_the_launchers_own_go_on(tmp_path: Path) -> None:
    log, reader = EventLog(str(tmp_path), "vm-1"), EventReader(str(tmp_path))
    for _ in range(MAX_CAUSED + 50):
        log.put("guest", "flood", {})
    log.put("launcher", "end", {})
    names = _names(reader)
    assert names == ["flood"] * MAX_CAUSED + ["events-dropped", "end"]
    log.renew()
    log.put("guest", "booted", {})
    assert _names(reader) == ["booted"]


def test_a_detail_that_is_too_long_is_left_out(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path), "vm-1")
    log.put("guest", "x" * 500, {"message": "y" * MAX_DETAIL})
    (event,) = EventReader(str(tmp_path)).read()
    assert event["detail"] == {"left_out": MAX_DETAIL + len('{"message":""}')}
    assert len(event["event"]) == 80


def test_a_full_disk_costs_events_and_how_many_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(str(tmp_path), "vm-1")
    log.put("launcher", "launch", {})

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        log.put("guest", "booted", {})
        log.put("guest", "running", {})
    log.put("launcher", "end", {})
    events = list(EventReader(str(tmp_path)).read())
    assert [event["event"] for event in events] == ["launch", "events-lost", "end"]
    assert events[1]["detail"] == {"count": 2}


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("")
    (tmp_path / "events.jsonl").symlink_to(tmp_path / "target")
    EventLog(str(tmp_path), "vm-1").put("launcher", "launch", {})
    assert (tmp_path / "target").read_text() == ""


GOOD = {"schema": "cvm.event/1", "time": "t", "vm": "v", "source": "s", "event": "e", "detail": {}}


@pytest.mark.parametrize(
    "line",
    ["", "{", "[]", "7", "\0", json.dumps({**GOOD, "schema": "cvm.event/2"}), json.dumps({**GOOD, "detail": []}),
     json.dumps({**GOOD, "vm": 7}), json.dumps({name: value for name, value in GOOD.items() if name != "time"})],
)  # fmt: skip
def test_a_line_that_is_no_event_is_passed_over(line: str, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(f"{json.dumps(GOOD)}\n{line}\n{json.dumps(GOOD)}\n{json.dumps(GOOD)[:30]}")
    assert _names(EventReader(str(tmp_path))) == ["e", "e"]
