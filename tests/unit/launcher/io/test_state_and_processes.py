"""State folders, process identities, tails and terminals."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from launcher.errors import NotFound, StateUnusable, WrongState
from launcher.io.process import Forked, cpu_seconds, end, spawn
from launcher.io.procid import identity, is_alive, send, start_time
from launcher.io.sockets import connect, connect_soon
from launcher.io.statedir import VmDir, existing, state_root, vm_names
from launcher.io.statuslog import StatusLog
from launcher.io.tail import Tail, last_lines
from launcher.io.terminal import attach
from tests.until import until


@pytest.fixture
def vm(tmp_path: Path) -> VmDir:
    made = VmDir(str(tmp_path / "root"), "vm-1")
    made.create()
    return made


def test_the_root_is_chosen_by_environment() -> None:
    assert state_root({"CVM_STATE": "/a/b"}) == "/a/b"
    assert state_root({"XDG_STATE_HOME": "/x", "HOME": "/h"}) == "/x/cvm"
    assert state_root({"HOME": "/h"}) == "/h/.local/state/cvm"


def test_a_folder_others_can_enter_is_refused(vm: VmDir) -> None:
    Path(vm.path).chmod(0o755)
    with pytest.raises(StateUnusable, match="mode 0755"):
        vm.create()


def test_a_link_in_place_of_the_folder_is_refused(vm: VmDir, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "root" / "vm-2").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateUnusable):
        VmDir(str(tmp_path / "root"), "vm-2").create()


def test_only_one_launcher_holds_a_vm(vm: VmDir) -> None:
    other = VmDir(os.path.dirname(vm.path), "vm-1")
    vm.lock()
    assert other.is_locked()
    with pytest.raises(WrongState, match="already at work"):
        other.lock()
    vm.unlock()
    assert not other.is_locked()
    other.lock()
    other.unlock()


def test_a_file_is_replaced_in_one_step_and_private(vm: VmDir) -> None:
    vm.write_json("state.json", {"a": 1})
    vm.write_json("state.json", {"a": "ü"})
    assert vm.read_json("state.json") == {"a": "ü"}
    assert os.listdir(vm.path) == ["state.json"]
    assert Path(vm.file("state.json")).stat().st_mode & 0o777 == 0o600


def test_what_lies_where_a_file_is_made_is_neither_followed_nor_used(vm: VmDir, tmp_path: Path) -> None:
    """QEMU's user may have a place in this folder; what it leaves there must not become the launcher's file."""
    other = tmp_path / "other"
    other.write_bytes(b"other")
    fresh, log = Path(vm.file(f".state.json.{os.getpid()}")), Path(vm.file("serial.log"))
    for leave in (fresh.touch, lambda: fresh.symlink_to(other)):
        leave()
        held = os.open(fresh, os.O_RDONLY)
        vm.write("state.json", b"{}")
        assert os.fstat(held).st_ino != os.stat(vm.file("state.json")).st_ino
        os.close(held)
    log.write_bytes(b"0123456789ab")
    Path(f"{log}.1").symlink_to(other)
    Path(vm.file("status.jsonl")).symlink_to(other)
    assert Tail(str(log)).rotate(10)
    StatusLog(vm.file("status.jsonl")).feed(b'{"v":1,"event":"booted","time":1.0,"detail":{}}\n')
    assert other.read_bytes() == b"other"
    assert Path(f"{log}.1").read_bytes() == b"0123456789ab"
    assert os.stat(f"{log}.1", follow_symlinks=False).st_mode == 0o100600


def test_a_full_disk_leaves_the_old_file(vm: VmDir, monkeypatch: pytest.MonkeyPatch) -> None:
    vm.write_json("state.json", {"a": 1})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateUnusable, match="No space left"):
        vm.write_json("state.json", {"a": 2})
    assert vm.read_json("state.json") == {"a": 1}
    assert os.listdir(vm.path) == ["state.json"]


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b"[" * 200000])
def test_a_damaged_file_is_our_error(vm: VmDir, content: bytes) -> None:
    Path(vm.file("state.json")).write_bytes(content)
    with pytest.raises(StateUnusable):
        vm.read_json("state.json")


def test_names_lead_to_folders_of_vms_only(vm: VmDir) -> None:
    root = os.path.dirname(vm.path)
    assert vm_names(root) == []
    vm.write_json("state.json", {})
    assert vm_names(root) == ["vm-1"]
    assert existing(root, "vm-1").path == vm.path
    for name in ("vm-2", "../root/vm-1", ".", ""):
        with pytest.raises(NotFound):
            existing(root, name)
    assert vm_names(root + "-none") == []


def test_clearing_keeps_the_lock(vm: VmDir) -> None:
    vm.lock()
    vm.write_json("state.json", {})
    vm.write_json("ledger", {})
    os.mkdir(vm.file("tpm"))
    os.symlink("/", vm.file("tpm/elsewhere"))
    vm.clear("ledger")
    assert sorted(os.listdir(vm.path)) == ["ledger", "lock"]
    vm.remove("ledger", "lock", "lock")
    vm.unlock()


def test_a_process_is_known_by_more_than_its_pid() -> None:
    me = identity(os.getpid())
    assert is_alive(me)
    assert not is_alive(me | {"start": int(str(me["start"])) + 1})
    assert not is_alive(me | {"boot": "another"})
    for nobody in (None, {}, {"pid": -1, "start": 5}, {"pid": "1", "start": 1}, {"pid": 2**22 + 1, "start": 1}, 7):
        assert not is_alive(nobody)
        assert not send(nobody, signal.SIGTERM)


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    who = identity(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert start_time(child.pid) == 0
    assert not is_alive(who)
    child.wait()


def test_a_signal_reaches_exactly_the_process_meant() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert send(identity(child.pid), signal.SIGKILL)
    assert child.wait(5) == -signal.SIGKILL


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import sys, time; from launcher.io.process import spawn\n"
        "child = spawn([sys.executable, '-c', 'import time; time.sleep(60)'], cwd='/', env={}, stderr=sys.stderr.buffer)\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    who = identity(int(parent.stdout.readline()))
    assert is_alive(who)
    parent.kill()
    parent.wait()
    until(lambda: not is_alive(who), "the child has died")


def test_a_child_that_ignores_the_polite_signal_is_ended_anyway(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with (tmp_path / "log").open("wb") as log:
        child = spawn([sys.executable, "-c", code], cwd="/", env={}, stderr=log, pipes=True)
    assert child.stdout is not None
    child.stdout.readline()
    assert end(child, patience=0.2) == -signal.SIGKILL
    assert cpu_seconds(child.pid) == 0.0
    assert cpu_seconds(os.getpid()) > 0


def test_a_socket_is_reached_however_long_its_folder_is(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 200)
    folder.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    before = os.getcwd()
    os.chdir(folder)
    try:
        listener.bind("s")
    finally:
        os.chdir(before)
    listener.listen()
    with connect(str(folder), "s"), listener:
        pass
    assert connect_soon(str(folder), "none", seconds=0.05, alive=lambda: True) is None
    assert connect_soon(str(folder), "none", seconds=60, alive=lambda: False) is None


def test_a_tail_follows_truncates_and_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(str(path))
    assert tail.read() == b""
    assert not tail.rotate(10)
    path.write_bytes(b"0123456789ab")
    assert tail.read(4) == b"0123"
    assert tail.read() == b"456789ab"
    assert tail.rotate(10)
    assert path.read_bytes() == b""
    assert (tmp_path / "log.1").read_bytes() == b"0123456789ab"
    path.write_bytes(b"new")
    assert tail.read() == b"new"
    assert not tail.rotate(10)


def test_the_last_lines_of_a_log_are_found(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 20000 + b"\none\n\ntwo\xff\n")
    assert last_lines(str(path), 2) == ["one", "two\ufffd"]
    assert last_lines(str(tmp_path / "none"), 2) == []


def test_a_terminal_is_joined_with_a_console_until_the_escape_key() -> None:
    ours, theirs = socket.socketpair()
    master, slave = pty.openpty()
    read, write = os.pipe()
    answers: list[str] = []
    worker = threading.Thread(target=lambda: answers.append(attach(ours, slave, write, lambda data: data.upper())))
    worker.start()
    theirs.sendall(b"login: ")
    assert os.read(read, 100) == b"LOGIN: "
    os.write(master, b"root\n\x1drest")
    worker.join(5)
    assert answers == ["detached"]
    assert theirs.recv(100) in (b"root\n", b"root\r")


def test_a_console_that_ends_is_left_and_input_may_end_before() -> None:
    ours, theirs = socket.socketpair()
    with open(os.devnull, "rb") as nothing, open(os.devnull, "wb") as sink:
        theirs.sendall(b"bye")
        theirs.close()
        assert attach(ours, nothing.fileno(), sink.fileno(), bytes) == "the VM has ended"


def test_a_file_that_need_not_last_waits_for_no_disk(vm: VmDir, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.readlink(f"/proc/self/fd/{number}")))
    vm.write("a", b"1", durable=False)
    assert Path(vm.file("a")).read_bytes() == b"1" and synced == []
    vm.write("b", b"2")
    assert len(synced) == 1


def test_a_child_whose_status_an_interrupt_took_has_ended() -> None:
    child = Forked(os.posix_spawn("/bin/true", ["true"], {}))
    os.waitpid(child.pid, 0)
    assert child.poll() == 0
    assert end(child) == 0
