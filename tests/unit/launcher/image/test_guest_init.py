"""The guest's /init, as far as it can be tried without being PID 1."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.image import guest_init


def test_a_module_that_fails_is_named_and_the_next_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "modules").write_text("/a.ko\n/b.ko\n/c.ko\n")
    loaded: list[str] = []

    def load(path: str) -> None:
        if path == "/b.ko":
            raise OSError(errno.ENOEXEC, "Exec format error", path)
        loaded.append(path)

    monkeypatch.setattr(guest_init, "MODULE_LIST", str(tmp_path / "modules"))
    monkeypatch.setattr(guest_init, "load_module", load)
    guest_init.load_modules()
    assert loaded == ["/a.ko", "/c.ko"]
    assert "/b.ko" in capfd.readouterr().err


def test_a_file_that_is_no_module_is_refused_by_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "x.ko").write_bytes(b"not a module")
    with pytest.raises(OSError, match=r"x\.ko"):
        guest_init.load_module(str(tmp_path / "x.ko"))


def test_a_mount_that_fails_names_its_target(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="here"):
        guest_init.mount("no-such-file-system", str(tmp_path / "here"), 0, "")


def test_the_machine_powers_off_when_the_agent_raises(tmp_path: Path) -> None:
    """In a process of its own: the environment is emptied, and ``reboot`` is replaced by a mark."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(guest_init.__file__).parent)!r})\n"
        "import guest_init\n"
        "guest_init.mount = guest_init.load_modules = lambda *a: None\n"
        "guest_init.os.chmod = lambda *a: None\n"
        "guest_init.AGENT = 'no.such.agent'\n"
        "class Libc:\n"
        "    def reboot(self, how):\n"
        "        print('reboot', hex(how.value & 0xffffffff), sorted(guest_init.os.environ))\n"
        "guest_init.ctypes.CDLL = lambda *a, **k: Libc()\n"
        "guest_init.os.sync = lambda: None\n"
        "guest_init.main()\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env={**os.environ, "LD_PRELOAD": ""}, check=False
    )
    assert done.stdout.startswith("reboot 0x4321fedc")
    assert "LD_PRELOAD" not in done.stdout
    assert "No module named 'no'" in done.stderr
