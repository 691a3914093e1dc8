"""The launch ledger: only appended to, and every change noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.core.names import LEDGER
from launcher.errors import StateUnusable
from launcher.io.control import ControlMalformed, Request, parse_request
from launcher.io.ledger import FIRST, Ledger, LedgerBroken, append, epoch, read_ledger
from launcher.io.statedir import VmDir
from launcher.service.epochs import begin_epoch


@pytest.fixture
def vm(tmp_path: Path) -> VmDir:
    made = VmDir(str(tmp_path), "web-1")
    made.create()
    for number in range(3):
        append(made, {"event": "launch", "number": number})
    return made


def lines(vm: VmDir) -> list[bytes]:
    return Path(vm.file(LEDGER)).read_bytes().splitlines(keepends=True)


def test_what_was_appended_is_read_in_order(vm: VmDir) -> None:
    found = read_ledger(vm)
    assert [entry["number"] for entry in found.entries] == [0, 1, 2]
    assert found.entries[0]["previous"] == FIRST
    assert Path(vm.file(LEDGER)).stat().st_mode & 0o777 == 0o600


def test_epochs_are_counted_by_their_lines_and_by_no_text_that_looks_like_one(vm: VmDir) -> None:
    assert epoch(VmDir(vm.path, "none")) == 0
    before = epoch(vm)
    append(vm, {"event": "end", "reason": '"event":"snapshot-revert"'})
    assert epoch(vm) == before
    assert begin_epoch(vm, "s", "disk a is") == before + 1 == epoch(vm)


def test_a_vm_without_launches_has_an_empty_ledger(tmp_path: Path) -> None:
    assert read_ledger(VmDir(str(tmp_path), "none")) == Ledger((), FIRST)


@pytest.mark.parametrize("gone", [0, 1])
def test_a_removed_line_is_noticed(vm: VmDir, gone: int) -> None:
    kept = [line for number, line in enumerate(lines(vm)) if number != gone]
    Path(vm.file(LEDGER)).write_bytes(b"".join(kept))
    with pytest.raises(LedgerBroken, match=f"line {gone + 1}: does not follow"):
        read_ledger(vm)


def test_a_changed_line_is_noticed_by_the_next(vm: VmDir) -> None:
    changed = lines(vm)
    changed[1] = changed[1].replace(b'"number":1', b'"number":7')
    Path(vm.file(LEDGER)).write_bytes(b"".join(changed))
    with pytest.raises(LedgerBroken, match="line 3: does not follow"):
        read_ledger(vm)


def test_a_line_cut_short_by_a_crash_is_named_and_the_next_launch_is_still_written(vm: VmDir) -> None:
    whole = b"".join(lines(vm))
    Path(vm.file(LEDGER)).write_bytes(whole[:-5])
    with pytest.raises(LedgerBroken, match="line 3: cut short"):
        read_ledger(vm)
    append(vm, {"event": "launch", "number": 3})
    assert json.loads(lines(vm)[-1])["number"] == 3
    with pytest.raises(LedgerBroken, match="line 3"):
        read_ledger(vm)


def test_a_link_in_the_ledgers_place_is_not_followed(tmp_path: Path) -> None:
    vm = VmDir(str(tmp_path), "web-1")
    vm.create()
    target = tmp_path / "target"
    target.touch()
    Path(vm.file(LEDGER)).symlink_to(target)
    with pytest.raises(StateUnusable, match="symbolic link"):
        append(vm, {"event": "launch"})
    assert target.read_bytes() == b""


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b'{"v":1}',
        b'{"v":2,"do":"pause"}',
        b'{"v":1,"do":7}',
        b'{"v":1,"do":"a b"}',
        b'{"v":1,"do":"x","y":1}',
    ],
)
def test_a_request_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(ControlMalformed):
        parse_request(line)


def test_a_request_names_one_command() -> None:
    assert parse_request(b'{"v":1,"do":"pause"}') == Request("pause", {})
    assert parse_request(b'{"v":1,"do":"x","about":{"a":1}}') == Request("x", {"a": 1})
