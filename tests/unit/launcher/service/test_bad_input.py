"""A QEMU that hangs, babbles or talks nonsense, a full state folder, paths nobody should choose: a clear error or none, never a
traceback, and nothing left behind. With a fake QEMU.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from launcher.io.tail import LIMIT
from tests.unit.launcher.service.conftest import Scene
from tests.unit.launcher.service.test_launching import KERNEL, launch, state_folder, status
from tests.unit.launcher.service.test_lives import alive, recorded
from tests.until import PATIENCE, until

HOSTILE = "a,b=c  d\nü%s '\"$(x)#"
UP = [KERNEL, status("booted"), status("running")]


def nothing_left(path: Path) -> bool:
    """No process in the VM's folder, no socket."""
    here = [pid for pid in os.listdir("/proc") if pid.isdigit() and _folder_of(pid) == str(state_folder(path))]
    return not here and not list(state_folder(path).glob("*.sock"))


def _folder_of(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


@pytest.mark.parametrize("greeting", ["", "{}\n", "\x00\xff{[\n", '{"QMP": 1}\n', "[" * 50_000 + "\n"])
def test_a_monitor_that_does_not_greet_is_told_and_its_qemu_is_ended(
    greeting: str, scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.io.qmp._PATIENCE", 0.5)
    monkeypatch.setattr("launcher.io.qemu._GREETS_WITHIN", 0.5)
    path = scene(["greet", greeting], ["hang"])
    code, _, err = launch(path, capsys)
    assert code in (5, 9)
    assert "QMP" in err and "Traceback" not in err
    assert recorded(path)["state"] == "failed"
    assert (state_folder(path) / "vm.json").exists(), "what would have run"
    assert nothing_left(path)


@pytest.mark.parametrize(
    "nonsense", ["\x00\xff{[\n", '{"event": 7}\n', '{"return": {}}\n{"error": "x"}\n', "[" * 100_000 + "\n"]
)
def test_a_monitor_that_talks_nonsense_later_does_not_end_a_vm_that_is_well(
    nonsense: str, scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scene(*UP, ["raw-monitor", nonsense], ["sleep", 0.3], ["exit", 0])
    code, result, err = launch(path, capsys)
    assert (code, result["outcome"]) == (0, "ran"), err
    assert nothing_left(path)


IMPATIENT = """
import sys
from launcher.cli import main
from launcher.io import qmp
qmp._PATIENCE, qmp._WITHOUT_ANSWER = 0.5, 0.1
sys.exit(main(sys.argv[1:]))
"""


def test_a_qemu_that_hangs_is_ended_without_force(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene(*UP, ["hang"])
    launcher = subprocess.Popen([sys.executable, "-c", IMPATIENT, "launch", str(path), "--quiet"])
    try:
        until(lambda: recorded(path)["state"] == "running")
        pid = recorded(path)["qemu"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        assert main(["pause", "vm-1"]) == 10
        assert "no answer within" in capsys.readouterr().err
        assert main(["stop", "vm-1", "--seconds", str(PATIENCE)]) == 0
        assert launcher.wait(PATIENCE) == 130
    finally:
        launcher.kill()
        launcher.wait()
    assert not alive(pid) and nothing_left(path)
    assert recorded(path)["state"] == "stopped"


def test_a_qemu_that_floods_its_log_does_not_fill_the_disk(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.service.console_log.ROTATE_EVERY", 0.1)
    path = scene(*UP, ["babble", LIMIT + 80], ["sleep", 0.8], ["babble", 800], ["exit", 0])
    assert launch(path, capsys)[0] == 0
    assert (state_folder(path) / "qemu.log").stat().st_size < LIMIT


def test_a_vm_whose_every_path_is_hostile_starts_and_its_files_are_where_they_belong(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = scene(*UP, ["argv"], ["exit", 0], platform="emulated-snp")
    folder = tmp_path / HOSTILE
    folder.mkdir()
    for name in ("kernel", "initrd"):
        shutil.copy(path.parent / name, folder / f"{name}{HOSTILE}")
    (folder / f"disk{HOSTILE}").write_bytes(bytes(1 << 16))
    names = {name: json.dumps(f"{name}{HOSTILE}") for name in ("kernel", "initrd", "disk")}
    text = path.read_text().replace('"kernel"', names["kernel"]).replace('"initrd"', names["initrd"])
    moved = folder / "vm-1.toml"
    moved.write_text(
        text.replace('"ca.der"', json.dumps(str(path.parent / "ca.der"))) + f"\n[[disk]]\npath = {names['disk']}\n"
    )
    monkeypatch.setenv("CVM_STATE", str(tmp_path / f"state {HOSTILE}"))
    assert main(["launch", str(moved), "--quiet"]) in (0, 9), capsys.readouterr().err
    state = tmp_path / f"state {HOSTILE}" / "vm-1"
    words: list[str] = json.loads((state / "qemu.log").read_text().splitlines()[0])
    assert words[words.index("-kernel") + 1] == str(folder / f"kernel{HOSTILE}")
    assert words[words.index("-initrd") + 1] == str(folder / f"initrd{HOSTILE}")
    disks = [json.loads(word) for option, word in pairwise(words) if option == "-blockdev"]
    assert disks[0]["file"]["filename"] == str(folder / f"disk{HOSTILE}")


FULL = """
mount -t tmpfs -o size=512k tmpfs "$1" || exit 77
{before}
exec "$2" -m launcher launch "$3" --quiet
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="a small disk needs root")
@pytest.mark.parametrize(
    ("before", "steps"),
    [
        ('mkdir -m 700 "$1/vm-1"; head -c 1m /dev/zero >"$1/filler" 2>/dev/null', [KERNEL, ["exit", 0]]),
        ("", [*UP, ["fill"], status("payload-output", text="a word\n"), ["sleep", 0.5], ["exit", 0]]),
    ],
    ids=["before the start", "while it runs"],
)
def test_a_full_state_folder_is_said_and_nothing_is_left_half_started(
    before: str, steps: list[Any], scene: Scene, tmp_path: Path
) -> None:
    path = scene(*steps)
    (tmp_path / "state").mkdir(mode=0o700)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", FULL.format(before=before), "sh", str(tmp_path / "state"), sys.executable, str(path)],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip("no tmpfs can be mounted here")
    assert done.returncode == 8, done.stderr
    assert "No space left" in done.stderr or "no room" in done.stderr
    assert "Traceback" not in done.stderr
    ours = [pid for pid in os.listdir("/proc") if pid.isdigit() and str(tmp_path) in _command(pid)]
    assert not ours


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
