"""A live QEMU behind its jail, looked at from outside; and the jail itself, with a program that tries the doors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from launcher.core.argv import qemu_options
from launcher.core.confinement import Confinement, confinement
from launcher.core.confinement_settings import IsolationSettings
from launcher.core.facts import QemuFacts
from launcher.core.network import Net
from launcher.core.spec import VmSpec
from launcher.core.vm import Disk
from launcher.errors import StateUnusable
from launcher.io import acl, isolation
from launcher.io.isolation import IsolationRefused, Jail, allocate, jail_for, start_confined
from launcher.io.process import Forked, fork
from launcher.io.qemu import Qemu, start_qemu
from launcher.io.statedir import FIRST_UID, VmDir
from launcher.io.toolchain import ToolchainMissing, find_toolchain
from launcher.service.planning import qemu_facts
from policy.vocab import Platform

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="another user and a private root need root here")


def _facts() -> QemuFacts:
    try:
        return qemu_facts(find_toolchain())
    except ToolchainMissing as exc:
        pytest.skip(exc.message)


def _spec(qemu: QemuFacts, disk: Path, net: Net | None = None) -> VmSpec:
    return VmSpec(
        "t", Platform.NONE, "tcg", qemu.can, 256 << 20, 1, "EPYC-v4", None, None, None, None,
        (Disk(str(disk), "d0"),), net, None, None,
    )  # fmt: skip


@contextmanager
def _running(tmp_path: Path, settings: IsolationSettings, net: Net | None = None) -> Iterator[tuple[Qemu, VmDir]]:
    qemu = _facts()
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    disk.chmod(0o600)
    vm = VmDir(str(tmp_path / "state"), "t")
    vm.create()
    Path(vm.file("serial.log")).touch(0o600)
    spec = _spec(qemu, disk, net)
    with open(vm.file("qemu.log"), "ab") as log, jail_for(confinement(settings, spec, qemu), vm) as jail:
        started = start_qemu((*qemu.argv, *qemu_options(spec)), dict(qemu.env), vm, log, jail, lambda _pid: None)
        try:
            yield started, vm
        finally:
            started.close()


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}


@root_only
def test_a_live_qemu_has_every_property_that_is_claimed(tmp_path: Path) -> None:
    with _running(tmp_path, IsolationSettings("strict")) as (qemu, vm):
        pid = qemu.child.pid
        status = _status(pid)
        assert [step for step in qemu.steps if not step.enforced] == []
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0
        uids = {int(word) for word in status["Uid"].split()}
        assert len(uids) == 1 and min(uids) >= FIRST_UID and status["Groups"] == ""
        assert status["NSpid"].split()[-1] == "1"
        for name in ("mnt", "uts", "ipc", "pid", "net"):
            assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert "Max core file size        0                    0" in limits
        assert "Max open files            4096                 4096" in limits
        inside = Path(f"/proc/{pid}/root")
        assert not (inside / "proc").exists() and not (inside / "sys").exists() and not (inside / "etc").exists()
        assert sorted(os.listdir(inside / "dev")) == ["null", "random", "urandom", "zero"]
        assert qemu.qmp.execute("query-status")["running"] is True
        assert os.stat(vm.path).st_mode & 0o7777 == 0o1770
    assert os.stat(vm.path).st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_a_confined_program_does_not_have_the_launchers_environment(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes QEMU over reads its environment."""
    monkeypatch.setenv("VAULT_TOKEN", "s.canary")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    with _running(tmp_path, IsolationSettings(mode)) as (qemu, _vm):
        environment = Path(f"/proc/{qemu.child.pid}/environ").read_bytes()
    assert (b"s.canary" in environment) is (mode == "off")
    assert b"LC_ALL=C.UTF-8" in environment


@root_only
def test_what_was_given_is_taken_back_where_the_rest_cannot_be_given(tmp_path: Path) -> None:
    disk, vm = tmp_path / "disk.img", VmDir(str(tmp_path / "state"), "t")
    disk.touch(0o600)
    vm.create()
    paths = ((str(disk), "write"), ("/proc/version", "write"))  # no access lists on /proc
    wanted = Confinement(IsolationSettings(), (), paths, (), (), tcp=False, rlimits=())
    with jail_for(wanted, vm) as jail:
        assert jail.uid is None and "/proc/version cannot be given" in jail.why
        assert "system.posix_acl_access" not in os.listxattr(disk)
        assert os.stat(vm.path).st_mode & 0o7777 == 0o700


@root_only
def test_a_link_in_place_of_what_a_confined_program_keeps_is_not_given_away(tmp_path: Path) -> None:
    """A program that was taken over owns that folder; without Landlock it could leave a link there."""
    prize, vm = tmp_path / "prize", VmDir(str(tmp_path / "state"), "t")
    prize.mkdir(0o700)
    vm.create()
    Path(vm.file("state")).symlink_to(prize)
    wanted = Confinement(IsolationSettings(), (), (), (), (("state", "state"),), tcp=False, rlimits=())
    with pytest.raises(StateUnusable, match="state: is a link"), jail_for(wanted, vm):
        pass
    assert (prize.stat().st_uid, prize.stat().st_mode & 0o777) == (os.geteuid(), 0o700)
    assert os.stat(vm.path).st_mode & 0o7777 == 0o700


@root_only
def test_the_disk_is_given_for_the_run_only(tmp_path: Path) -> None:
    with _running(tmp_path, IsolationSettings()):
        assert os.getxattr(tmp_path / "disk.img", "system.posix_acl_access")
    assert os.stat(tmp_path / "disk.img").st_mode & 0o777 == 0o600
    assert os.stat(tmp_path / "disk.img").st_uid == os.geteuid()


@root_only
def test_user_networking_keeps_the_hosts_network_and_nothing_else(tmp_path: Path) -> None:
    with _running(tmp_path, IsolationSettings(), Net()) as (qemu, _vm):
        pid = qemu.child.pid
        assert os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net")
        assert os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")


def test_mode_off_confines_nothing_and_says_nothing_is_enforced(tmp_path: Path) -> None:
    with _running(tmp_path, IsolationSettings("off")) as (qemu, _vm):
        assert qemu.steps == ()
        assert os.readlink(f"/proc/{qemu.child.pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")


@root_only
def test_qemu_that_is_killed_is_seen_to_have_ended(tmp_path: Path) -> None:
    with _running(tmp_path, IsolationSettings()) as (qemu, _vm):
        os.kill(qemu.child.pid, 9)
        assert qemu.child.wait(10) == -9


_PROBE = """
import os, socket, sys
def attempt(name, step):
    try:
        step(); print(name, "yes")
    except OSError as exc:
        print(name, "no", exc.errno)
attempt("own", lambda: open("serial.log", "ab").close())
attempt("state", lambda: open("state.json", "ab").close())
attempt("socket", lambda: socket.socket(socket.AF_UNIX).bind("new.sock"))
attempt("remove", lambda: os.unlink("state.json"))
attempt("make", lambda: open("made", "w"))
attempt("neighbour", lambda: os.listdir(sys.argv[1]))
attempt("shadow", lambda: open("/etc/shadow"))
attempt("tcp", lambda: socket.socket().bind(("127.0.0.1", 0)))
attempt("kill", lambda: os.kill(int(sys.argv[2]), 0))
attempt("mount", lambda: os.chroot("."))
"""


def _probe(tmp_path: Path, namespaces: tuple[str, ...]) -> dict[str, str]:
    """Run the probe in a jail as QEMU would be run; with fewer namespaces the later layers must hold by themselves."""
    neighbour = tmp_path / "state/other"
    neighbour.mkdir(parents=True)
    (tmp_path / "state").chmod(0o755)
    neighbour.chmod(0o755)
    vm = VmDir(str(tmp_path / "state"), "t")
    vm.create()
    for name in ("serial.log", "state.json"):
        Path(vm.file(name)).touch(0o600)
    tools = tuple((path, "tools") for path in ("/usr", "/lib", "/lib64", "/etc/ld.so.cache") if os.path.exists(path))
    wanted = Confinement(IsolationSettings(), namespaces, tools, (), (("serial.log", "write"),), False, (("CORE", 0),))
    out = tmp_path / "out"
    with open(out, "wb") as log, jail_for(wanted, vm) as jail:
        script = f"import os; os.dup2(2, 1)\n{_PROBE}"
        argv = ("/usr/bin/python3", "-I", "-S", "-c", script, str(neighbour), str(os.getpid()))
        child, _steps = start_confined(jail, argv, {}, vm, log)
        assert child.wait(30) == 0, out.read_text()
    return {line.split()[0]: line.split()[1] for line in out.read_text().splitlines()}


@root_only
@pytest.mark.skipif(not os.path.exists("/usr/bin/python3"), reason="no /usr/bin/python3 to put into the jail")
@pytest.mark.parametrize("namespaces", [("mount", "uts", "ipc", "pid", "net"), ("mount",), ()])
def test_whoever_takes_over_qemu_reaches_only_its_own_files(tmp_path: Path, namespaces: tuple[str, ...]) -> None:
    found = _probe(tmp_path, namespaces)
    open_doors = {name for name, answer in found.items() if answer == "yes"}
    assert open_doors == {"own", "socket"}


def test_strict_mode_does_not_start_what_a_kernel_refuses_to_confine(tmp_path: Path) -> None:
    vm = VmDir(str(tmp_path / "state"), "t")
    vm.create()
    missing = ((str(tmp_path / "not-there"), "read"),)
    wanted = Confinement(IsolationSettings("strict"), (), missing, (), (), True, ())
    with open(tmp_path / "log", "wb") as log, pytest.raises(IsolationRefused, match=r"landlock: .*No such file"):
        start_confined(Jail(wanted, None, "the VM file says so"), ("/bin/true",), {}, vm, log)


def test_a_program_that_is_not_there_is_an_ordinary_ending(tmp_path: Path) -> None:
    vm = VmDir(str(tmp_path / "state"), "t")
    vm.create()
    wanted = Confinement(IsolationSettings("off"), (), (), (), (), True, ())
    with open(tmp_path / "log", "wb") as log:
        child, steps = start_confined(Jail(wanted, None, ""), ("/no/such/qemu",), {}, vm, log)
        assert child.wait(30) == 127 and steps == ()
    assert "/no/such/qemu: No such file" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("namespaces", [("pid",), ()])
def test_an_interruption_while_a_program_is_confined_leaves_none_behind(
    tmp_path: Path, namespaces: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = VmDir(str(tmp_path / "state"), "t")
    vm.create()
    started: list[int] = []

    class Interrupted(Forked):
        """Ctrl-C as soon as a process is there: the one that confines, and the one in its PID namespace."""

        def __init__(self, pid: int) -> None:
            super().__init__(pid)
            started.append(pid)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(isolation, "Forked", Interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    wanted = Confinement(IsolationSettings(), namespaces, (("/", "tools"),), (), (), True, ())
    with open(tmp_path / "log", "wb") as log, pytest.raises(KeyboardInterrupt):
        start_confined(Jail(wanted, None, ""), ("/bin/sleep", "60"), {}, vm, log)
    signal.signal(signal.SIGINT, before)
    assert started
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_jail_loads_nothing_of_the_project_but_its_own_parts() -> None:
    root = Path(__file__).parents[4]
    probe = f"import sys; sys.path.insert(0, {str(root)!r}); import launcher.io.jail; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", probe], capture_output=True, text=True, check=True)
    ours = {name for name in done.stdout.split() if name.partition(".")[0] in ("launcher", "policy", "ovmf")}
    assert ours == {"launcher", "launcher.io", *(f"launcher.io.{name}" for name in ("jail", "landlock", "libc"))}


def test_a_forked_child_has_only_the_descriptors_it_was_given(tmp_path: Path) -> None:
    kept, other = os.pipe()
    script = "import os, sys; os.write(2, str(sorted(int(n) for n in os.listdir('/proc/self/fd'))).encode())"

    def task() -> NoReturn:
        os.set_inheritable(kept, True)
        os.execv(sys.executable, (sys.executable, "-I", "-S", "-c", script))

    with open(tmp_path / "log", "wb") as log:
        child = Forked(fork(task, cwd=str(tmp_path), stderr=log, keep=(kept,)))
        assert child.wait(30) == 0
    os.close(kept)
    os.close(other)
    seen = json.loads((tmp_path / "log").read_text())
    assert seen[:3] == [0, 1, 2] and kept in seen and other not in seen and len(seen) == 5  # one lists the folder


def test_descriptors_are_handed_on_whatever_their_numbers_were(tmp_path: Path) -> None:
    """The second one stands where the first one belongs."""
    vm = VmDir(str(tmp_path / "state"), "t")
    vm.create()
    wanted = Confinement(IsolationSettings("off"), (), (), (), (), tcp=False, rlimits=())
    script = "import os; os.write(110, b'first'); os.write(111, b'second')"
    words = (sys.executable, "-I", "-S", "-c", script)
    with open(tmp_path / "log", "wb") as log, open(tmp_path / "a", "wb") as a, open(tmp_path / "b", "wb") as b:
        have = [os.dup2(a.fileno(), 112), os.dup2(b.fileno(), 110)]
        child, _ = start_confined(Jail(wanted, None, ""), words, {}, vm, log, ((112, 110), (110, 111)))
        for descriptor in have:
            os.close(descriptor)
        assert child.wait(30) == 0
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"first", b"second")


def test_a_forked_child_that_fails_ends_and_never_runs_its_parents_code(tmp_path: Path) -> None:
    def task() -> NoReturn:
        raise KeyboardInterrupt("told to stop")

    with open(tmp_path / "log", "wb") as log:
        child = Forked(fork(task, cwd=str(tmp_path), stderr=log))
        assert child.wait(30) == 126
    assert (tmp_path / "log").read_text() == "KeyboardInterrupt: told to stop\n"


def test_two_vms_never_share_a_user(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    one, two = (VmDir(str(tmp_path / "s"), name) for name in ("one", "two"))
    assert allocate(one) != allocate(two)
    assert allocate(one) == allocate(one)


def _may_write(path: Path, uid: int) -> bool:
    """Whether that user can open it for writing, once inside its folder."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.open(path.name, os.O_WRONLY, dir_fd=folder)
        except OSError:
            os._exit(1)
        os._exit(0)
    os.close(folder)
    return os.waitpid(child, 0)[1] == 0


@root_only
def test_an_access_list_gives_nobody_else_more_than_its_mask_let_through(tmp_path: Path) -> None:
    """``setfacl -m u:4711:rw`` and then ``chmod g-w``: the owner took the right away."""
    tmp_path.chmod(0o711)
    disk = tmp_path / "disk"
    disk.touch(0o600)
    acl.grant(str(disk), 4711, 6)
    assert _may_write(disk, 4711)
    disk.chmod(0o640)
    assert not _may_write(disk, 4711)
    acl.grant(str(disk), 4712, 6)
    assert _may_write(disk, 4712) and not _may_write(disk, 4711)
    acl.revoke(str(disk), 4712)
    assert not _may_write(disk, 4711) and not _may_write(disk, 4712)
    assert disk.stat().st_mode & 0o777 == 0o640


@root_only
def test_an_access_list_is_given_and_taken_back_without_a_trace(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.touch(0o640)
    acl.grant(str(file), 64000, 6)
    acl.grant(str(file), 64001, 4)
    acl.revoke(str(file), 64000)
    acl.revoke(str(file), 64001)
    assert file.stat().st_mode & 0o777 == 0o640


@root_only
def test_a_disk_that_is_a_device_stays_one(tmp_path: Path) -> None:
    vm = VmDir(str(tmp_path / "state"), "t")
    vm.create()
    tools = tuple((path, "tools") for path in ("/usr", "/lib", "/lib64", "/etc/ld.so.cache") if os.path.exists(path))
    paths = (*tools, ("/dev/zero", "read"))
    wanted = Confinement(IsolationSettings(), ("mount", "pid"), paths, (), (), True, ())
    with open(tmp_path / "log", "wb") as log, jail_for(wanted, vm) as jail:
        argv = ("/usr/bin/head", "-c", "4", "/dev/zero")
        child, _steps = start_confined(jail, argv, {}, vm, log)
        assert child.wait(30) == 0, (tmp_path / "log").read_text()
