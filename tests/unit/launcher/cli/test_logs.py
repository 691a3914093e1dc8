"""``cvm logs``: all of it, the end of it, since a time, of the launch before; and never an escape sequence."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from launcher.cli import main
from launcher.core.names import PREVIOUS, QEMU_LOG, SERIAL_LOG, STATE_FILE, TIMES
from launcher.io.times import MAX_INDEX, TimeIndex, offset_at, parse_marks


@pytest.fixture
def vm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a VM that has ended, with ten console lines."""
    monkeypatch.setenv("CVM_STATE", str(tmp_path))
    folder = tmp_path / "web-1"
    folder.mkdir(mode=0o700)
    (folder / STATE_FILE).write_text('{"state": "stopped"}')
    (folder / SERIAL_LOG).write_bytes(b"".join(b"line %d\n" % number for number in range(10)))
    return folder


def shown(capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    assert main(["logs", "web-1", *options]) == 0
    return capsys.readouterr().out.splitlines()


def test_all_lines_are_shown_after_those_that_were_moved_aside(vm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (vm / f"{SERIAL_LOG}.1").write_bytes(b"older\n")
    assert shown(capsys) == ["older", *(f"line {number}" for number in range(10))]
    assert shown(capsys, "--follow")[0] == "older"


def test_a_vm_that_never_said_a_word_is_told_with_the_logs_that_have_some(
    vm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (vm / QEMU_LOG).write_bytes(b"no such file\n")
    assert main(["logs", "web-1"]) == 0
    assert capsys.readouterr().err == ""
    (vm / SERIAL_LOG).write_bytes(b"")
    assert main(["logs", "web-1"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", "cvm: web-1 wrote nothing to its console; --source qemu has more\n")
    assert shown(capsys, "--source", "qemu") == ["no such file"]


def test_the_last_lines_alone(vm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "-n", "2") == ["line 8", "line 9"]
    assert shown(capsys, "-n", "0") == []
    assert len(shown(capsys, "--lines", "10000")) == 10


def test_what_was_written_since_a_time(vm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    (vm / (SERIAL_LOG + TIMES)).write_text(f"{now - 3600:.1f} 7\n{now - 60:.1f} 35\n{now:.1f} 70\n")
    assert shown(capsys, "--since", "2h") == [f"line {number}" for number in range(10)]
    assert shown(capsys, "--since", "30m") == [f"line {number}" for number in range(1, 10)]
    assert shown(capsys, "--since", "30s") == [f"line {number}" for number in range(5, 10)]
    assert shown(capsys, "--since", "2001-01-01T00:00:00Z", "-n", "1") == ["line 9"]


def test_the_launch_before_is_shown_by_itself(vm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (vm / (SERIAL_LOG + PREVIOUS)).write_bytes(b"before \x1b[2Jthis\x1b]0;title\x07\n")
    assert shown(capsys, "--previous") == ["before this"]


@pytest.mark.parametrize(
    "options",
    [["--since", "soon"], ["--since", "2026-01-01T00:00:00"], ["-n", "-1"], ["-n", "99999"], ["-n", "1e3"]],
)
def test_an_option_that_means_nothing_is_refused(vm: Path, options: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["logs", "web-1", *options])
    assert caught.value.code == 2


@pytest.mark.parametrize("options", [["--since", "1h", "--source", "qemu"], ["--previous", "-f"]])
def test_options_that_contradict_each_other_are_refused(vm: Path, options: list[str]) -> None:
    assert main(["logs", "web-1", *options]) == 2


def test_marks_are_kept_a_second_apart_and_follow_their_log(tmp_path: Path) -> None:
    log = str(tmp_path / "serial.log")
    index = TimeIndex(log)
    for now, offset in ((100.0, 5), (100.5, 6), (101.0, 7)):
        index.mark(offset, now)
    assert Path(log + TIMES).read_text() == "100.0 5\n101.0 7\n"
    assert (offset_at(log, 99.0), offset_at(log, 100.9), offset_at(log, 200.0)) == (0, 5, 7)
    index.rotate()
    assert (offset_at(log, 200.0), offset_at(f"{log}.1", 200.0)) == (0, 7)


def test_an_index_stops_growing_and_costs_nothing_when_it_cannot_be_written(tmp_path: Path) -> None:
    log = tmp_path / "serial.log"
    Path(f"{log}{TIMES}").write_bytes(b"x" * MAX_INDEX)
    TimeIndex(str(log)).mark(1, 10.0)
    assert Path(f"{log}{TIMES}").stat().st_size == MAX_INDEX
    TimeIndex(str(tmp_path / "none/serial.log")).mark(1, 10.0)


@pytest.mark.parametrize(
    "data", [b"", b"x y\n", b"1.0\n", b"nan 5\n", b"1.0 -5\n", b"1.0 99999999999999999999\n", b"\xff 1"]
)
def test_what_is_no_mark_is_passed_over(data: bytes) -> None:
    assert parse_marks(data, 50.0) == 0
