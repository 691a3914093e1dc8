"""Cold moves between two state folders of one machine, with a fake QEMU; and another side that lies, or goes away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from launcher.core.migration import parse_target
from launcher.io.migration import listen
from launcher.io.move_wire import MoveFailed, Wire
from tests.unit.launcher.service.conftest import Scene
from tests.unit.launcher.service.test_launching import KERNEL, state_folder
from tests.unit.launcher.service.test_lives import UP, recorded, start
from tests.until import PATIENCE, until

DISK = b"disk" * 1000 + bytes(3 << 20) + b"end"


@pytest.fixture
def vm(scene: Scene) -> Path:
    """A VM file with a disk, launched and ended once."""
    path = scene(KERNEL, ["exit", 0])
    (path.parent / "disks").mkdir()
    (path.parent / "disks" / "a disk.img").write_bytes(DISK)
    path.write_text(f'{path.read_text()}\n[[disk]]\npath = "disks/a disk.img"\n')
    assert main(["launch", str(path), "--quiet"]) == 0
    return path


class Destination:
    """``cvm receive`` in a process, with a state folder of its own."""

    def __init__(self, tmp_path: Path) -> None:
        self.into, self.state, self.socket = tmp_path / "there", tmp_path / "state-there", tmp_path / "in.sock"
        self.into.mkdir()
        self.process: subprocess.Popen[str] | None = None

    def wait(self, *words: str) -> None:
        """The fake QEMU cannot be confined."""
        words = words or ("--unconfined",)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "launcher", "receive", f"unix:{self.socket}", "--into", str(self.into), *words],
            env={**os.environ, "CVM_STATE": str(self.state)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        assert "waiting at" in self.process.stderr.readline()

    def done(self) -> tuple[int, str]:
        assert self.process is not None
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out + err

    @property
    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.into)) for path in self.into.rglob("*") if path.is_file())


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Destination]:
    made = Destination(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.communicate()


def events(state: Path, name: str = "vm-1") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (state / name / "ledger.jsonl").read_text().splitlines()]


def test_a_stopped_vm_goes_with_its_files_and_cannot_start_here_until_it_is_released(
    vm: Path, there: Destination, capsys: pytest.CaptureFixture[str]
) -> None:
    there.wait()
    assert main(["move", "vm-1", f"unix:{there.socket}"]) == 0
    assert there.done()[0] == 0
    assert there.files == ["disks/a disk.img", "initrd", "kernel", "vm-1.toml"]
    assert (there.into / "disks/a disk.img").read_bytes() == DISK
    assert (there.into / "disks/a disk.img").stat().st_blocks * 512 < len(DISK), "zeros are holes"
    arrived = events(there.state)
    left = events(state_folder(vm).parent)
    assert [entry["event"] for entry in left] == ["launch", "end", "moved"]
    assert left[2]["disks"] == {"disks/a disk.img": sha256(DISK).hexdigest()}
    assert [entry["event"] for entry in arrived] == ["arrived"]
    assert arrived[0]["their_ledger"] == {"lines": 2, "head": left[2]["previous"]}
    assert json.loads((there.state / "vm-1/state.json").read_text())["state"] == "stopped"

    capsys.readouterr()
    for words in (["launch", str(vm)], ["stop", "vm-1", "--forget"], ["move", "vm-1", f"unix:{there.socket}"]):
        assert main(words) == 10
        said = capsys.readouterr().err
        assert "is moved to unix:" in said or "is moved, not up" in said
    assert main(["move", "vm-1", "--release"]) == 0
    assert main(["launch", str(vm), "--quiet"]) == 0
    assert [entry["event"] for entry in events(state_folder(vm).parent)][2:] == ["moved", "released", "launch", "end"]
    assert main(["move", "vm-1", "--release"]) == 10


def test_nobody_waits_for_a_vm_that_could_not_be_put_anywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["receive", f"unix:{tmp_path}/in.sock", "--into", str(tmp_path / "absent")]) == 8
    assert "absent: no such folder" in capsys.readouterr().err
    assert not (tmp_path / "in.sock").exists()


def test_a_running_vm_is_stopped_here_and_started_there(
    vm: Path, there: Destination, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_QEMU_SCENE", json.dumps(UP))
    monkeypatch.setenv("FAKE_QEMU_POWER", "obey")
    launcher = start(vm)
    until(lambda: recorded(vm)["state"] == "running")
    there.wait()
    assert main(["move", "vm-1", f"unix:{there.socket}"]) == 0
    assert "and runs there" in capsys.readouterr().out
    launcher.communicate(timeout=PATIENCE)
    assert recorded(vm)["state"] == "moved"
    assert there.done()[0] == 0
    assert [entry["event"] for entry in events(there.state)] == ["arrived", "launch"]
    monkeypatch.setenv("CVM_STATE", str(there.state))
    assert main(["stop", "vm-1", "--force"]) == 0


def _other_disk(there: Destination) -> None:
    (there.into / "disks").mkdir()
    (there.into / "disks/a disk.img").write_bytes(DISK + b"x")


def _other_kernel(there: Destination) -> None:
    (there.into / "kernel").write_bytes(b"another")


def _known_name(there: Destination) -> None:
    (there.state / "vm-1").mkdir(parents=True, mode=0o700)
    (there.state / "vm-1/state.json").write_text('{"state": "stopped"}')


def _link_outside(there: Destination) -> None:
    (there.into / "disks").symlink_to(there.into.parent)


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (_other_disk, "is not the VM's disk as it was left"),
        (_other_kernel, "what is here is not what the VM has"),
        (_known_name, "there is a VM named vm-1 here already"),
        (_link_outside, "leads out of"),
    ],
)
def test_what_the_destination_refuses_stays_this_hosts_and_leaves_nothing_there(
    prepare: Callable[[Destination], None], said: str, vm: Path, there: Destination,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    prepare(there)
    before = there.files
    there.wait()
    assert main(["move", "vm-1", f"unix:{there.socket}"]) == 9
    assert said in capsys.readouterr().err
    assert there.done()[0] != 0
    assert there.files == before
    assert not (there.state / "vm-1/ledger.jsonl").exists()
    assert main(["launch", str(vm), "--quiet"]) == 0


@pytest.mark.parametrize("table", ['mode = "off"', 'user = "none"', 'user = "1000"'])
def test_another_hosts_file_does_not_decide_how_qemu_is_confined_here(
    table: str, vm: Path, there: Destination, capsys: pytest.CaptureFixture[str]
) -> None:
    vm.write_text(vm.read_text().replace('mode = "off"', table))
    there.wait("--json")
    assert main(["move", "vm-1", f"unix:{there.socket}"]) == 9
    assert "how QEMU is confined is for the host to say" in capsys.readouterr().err
    status, said = there.done()
    assert status == 3 and '"code": "move.unconfined"' in said
    assert there.files == [] and not there.state.exists()


def test_a_shared_disk_is_not_sent(vm: Path, there: Destination, capsys: pytest.CaptureFixture[str]) -> None:
    os.link(vm.parent / "disks/a disk.img", there.into / "shared")
    (there.into / "disks").mkdir()
    (there.into / "shared").rename(there.into / "disks/a disk.img")
    there.wait()
    assert main(["move", "vm-1", f"unix:{there.socket}"]) == 0
    assert "sending disks" not in capsys.readouterr().err
    assert there.done()[0] == 0


@pytest.mark.parametrize(
    ("table", "said", "id_"),
    [
        ('[[disk]]\npath = "../outside.img"\n', "lies outside the VM file's folder", "move.host-file"),
        ("[devices]\ntpm = true\n", "TPM remembers stays on this host", "move.tpm"),
        ('[[share]]\npath = "/data"\ntag = "data"\n', "folder(s) of this host are named", "move.share"),
        (
            '[[disk]]\nformat = "luks"\nkey_file = "secret"\npath = "l.img"\n',
            "is this host's own and not sent",
            "move.host-file",
        ),
        ('[isolation]\nmode = "off"\n[[passthrough]]\naddress = "0000:01:00.0"\n', "PCI function", "move.passthrough"),
    ],
)
def test_what_ties_a_vm_to_this_host_is_refused_before_anybody_is_asked(
    table: str, said: str, id_: str, vm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = vm.read_text()
    vm.write_text(text.replace('[isolation]\nmode = "off"\n', "") + table if "isolation" in table else text + table)
    assert main(["move", "vm-1", "unix:/nobody.sock"]) == 3
    told = capsys.readouterr().err
    assert said in told
    assert f" [{id_}]\n" in told


# Another side that is none of ours -----------------------------------------------------------------------------------


@contextmanager
def peer(tmp_path: Path, act: Callable[[Wire], None]) -> Iterator[str]:
    """A destination played by hand."""
    where = f"unix:{tmp_path / 'peer.sock'}"
    server = listen(parse_target(where))
    server.setblocking(True)

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            act(Wire(connection))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield where
    finally:
        thread.join(PATIENCE)
        server.close()


def _ready(wire: Wire) -> dict[str, Any]:
    """Up to the disks' digests."""
    wire.receive()
    wire.send(want=[])
    wire.send(ready=True)
    disks: dict[str, Any] = wire.expect("disks")
    return disks


def _gone_after_the_stop(wire: Wire) -> None:
    _ready(wire)


def _wants_another_file(wire: Wire) -> None:
    _ready(wire)
    wire.send(want=["/etc/shadow"])


def _nonsense(wire: Wire) -> None:
    _ready(wire)
    wire.send(want="all")


@pytest.mark.parametrize("act", [_gone_after_the_stop, _wants_another_file, _nonsense])
def test_what_fails_before_the_commit_leaves_the_vm_with_this_host(
    act: Callable[[Wire], None], vm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with peer(tmp_path, act) as where:
        assert main(["move", "vm-1", where]) in (5, 9)
    assert recorded(vm)["state"] == "stopped"
    assert "not moved" in recorded(vm)["reason"]
    assert main(["launch", str(vm), "--quiet"]) == 0


def test_a_commit_that_nobody_confirms_leaves_a_vm_that_starts_nowhere_until_somebody_looks(
    vm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(wire: Wire) -> None:
        _ready(wire)
        wire.send(want=[])
        wire.send(received=True)
        wire.expect("commit")

    with peer(tmp_path, act) as where:
        assert main(["move", "vm-1", where]) == 9
    said = capsys.readouterr().err
    assert "handed over, but not confirmed" in said and "--release" in said
    assert main(["launch", str(vm)]) == 10


def _offer(vm: Path) -> dict[str, Any]:
    files = {
        path: [(vm.parent / path).stat().st_size, "" if "disk" in path else sha256((vm.parent / path).read_bytes()).hexdigest()]
        for path in ("kernel", "initrd", "disks/a disk.img")
    }  # fmt: skip
    return {
        "schema": "cvm.move/1", "vm_file": "vm-1.toml", "toml": vm.read_text(), "was_up": False, "measurement": None,
        "source": "elsewhere", "files": files,
    }  # fmt: skip


def _sent(wire: Wire, vm: Path, offer: dict[str, Any], damage: bytes) -> None:
    wire.send(**offer)
    for path in wire.expect("want"):
        wire.send_file(str(vm.parent / path), offer["files"][path][0])
    wire.expect("ready")
    wire.send(disks={"disks/a disk.img": [len(DISK), sha256(DISK).hexdigest()]})
    wire.expect("want")
    wire._send(damage + DISK[len(damage) :])
    wire.expect("received")


@pytest.mark.parametrize(
    ("change", "damage", "said"),
    [
        ({}, b"X", "damaged on the way"),
        ({"measurement": "ab" * 48}, b"", "it would measure None here"),
        ({"measurement": "\x1b[2J"}, b"", "want digests in hexadecimal"),
        ({"vm_file": "../up.toml"}, b"", "want a name that ends in .toml"),
        ({"files": {}}, b"", "are not those the VM file names"),
        ({"toml": "schema = 1"}, b"", "missing"),
        ({"schema": "cvm.move/2"}, b"", "no offer of cvm.move/1"),
    ],
)
def test_a_source_that_lies_leaves_nothing_here(
    change: dict[str, Any], damage: bytes, said: str, vm: Path, there: Destination
) -> None:
    from launcher.io.migration import connect

    there.wait()
    with (
        connect(parse_target(f"unix:{there.socket}")) as connection,
        pytest.raises(MoveFailed, match=r"refuses|gone") as caught,
    ):
        _sent(Wire(connection), vm, {**_offer(vm), **change}, damage)
    code, words = there.done()
    assert code not in (0, 1)
    assert said in words + caught.value.message
    assert there.files == []
    assert not (there.state / "vm-1").exists()


def test_a_source_that_goes_before_the_commit_leaves_nothing_here(vm: Path, there: Destination) -> None:
    from launcher.io.migration import connect

    there.wait()
    with connect(parse_target(f"unix:{there.socket}")) as connection:
        _sent(Wire(connection), vm, _offer(vm), b"")
        assert there.files == ["disks/a disk.img", "initrd", "kernel", "vm-1.toml"]
    code, words = there.done()
    assert (code, "has gone" in words) == (9, True)
    assert there.files == []
    assert not (there.state / "vm-1").exists()
