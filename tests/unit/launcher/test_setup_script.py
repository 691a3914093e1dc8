"""launcher/setup.sh where nothing can be installed: it says what is missing and changes nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

BASIC = ("sh", "dirname", "cat", "sha256sum", "mktemp", "tail", "rm", "tee", "awk", "env", "chmod")


@pytest.fixture
def clone(tmp_path: Path, repo: Path) -> Path:
    """A folder with a space in its name that has the script and the lock; ``bin`` beside it is the whole PATH."""
    folder = tmp_path / "a clone"
    (folder / "launcher").mkdir(parents=True)
    for name in ("launcher/setup.sh", "requirements-dev.lock", "pyproject.toml"):
        shutil.copyfile(repo / name, folder / name)
    (tmp_path / "bin").mkdir()
    for name in BASIC:
        found = shutil.which(name)
        assert found is not None
        (tmp_path / "bin" / name).symlink_to(found)
    tool(folder, "id", "echo 1000")
    return folder


def tool(clone: Path, name: str, body: str) -> None:
    """A shell script on the PATH."""
    path = clone.parent / "bin" / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def run(clone: Path, mode: str) -> subprocess.CompletedProcess[str]:
    script = str(clone / "launcher" / "setup.sh")
    env = {"PATH": str(clone.parent / "bin"), "TMPDIR": str(clone.parent), "PYTHON": "python3"}
    return subprocess.run(
        ["/bin/sh", script, mode], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


# The script adds the administration folders to PATH.
no_system_python = pytest.mark.skipif(
    any(Path(folder, "python3").exists() for folder in ("/usr/sbin", "/sbin", "/usr/local/sbin")),
    reason="a python among the administration tools",
)


@no_system_python
def test_an_ordinary_user_without_sudo_gets_the_command_to_run_as_root(clone: Path) -> None:
    tool(clone, "apt-get", "echo called >&2; exit 1")
    done = run(clone, "dev")
    assert done.returncode == 4
    assert "run as root:  apt-get install --no-install-recommends python3 python3-venv" in done.stderr
    assert "called" not in done.stderr
    assert not (clone / ".venv").exists()


@no_system_python
def test_a_system_without_apt_gets_the_list(clone: Path) -> None:
    done = run(clone, "dev")
    assert done.returncode == 4
    assert "not Debian" in done.stderr
    assert "python3-venv" in done.stderr


@no_system_python
def test_root_installs_and_retries_once_with_fresh_lists(clone: Path) -> None:
    log = clone.parent / "log"
    tool(clone, "id", "echo 0")
    tool(clone, "apt-get", f'echo "$1" >>"{log}"; [ "$1" = update ] || {{ echo "E: nothing known"; exit 100; }}')
    done = run(clone, "dev")
    assert log.read_text().split() == ["install", "update", "install"]
    assert done.returncode == 4
    assert "E: nothing known" in done.stderr


@no_system_python
def test_a_python_that_is_too_old_or_has_no_venv_is_not_taken(clone: Path) -> None:
    tool(clone, "python3", "exit 1")
    assert "python3-venv" in run(clone, "dev").stderr


def test_an_unknown_mode_is_a_usage_error(clone: Path) -> None:
    assert run(clone, "everything").returncode == 2


def test_a_second_run_touches_nothing(clone: Path) -> None:
    """A matching stamp and an interpreter: no pip, no apt, no output; only bytecode is brought up to date."""
    (clone / ".venv/bin").mkdir(parents=True)
    (clone / ".venv/bin/python").write_text(f"#!/bin/sh\necho \"$*\" >>'{clone}/called'\n")
    (clone / ".venv/bin/python").chmod(0o755)
    for name in ("requirements-dev.lock", "pyproject.toml"):
        text = (clone / name).read_text() + f"{clone}\n"
        stamp = subprocess.run(["sha256sum"], input=text, capture_output=True, text=True, check=True).stdout
        (clone / ".venv" / f"stamp-{name}").write_text(stamp)
    done = run(clone, "dev")
    assert (done.returncode, done.stderr) == (0, "")
    assert (clone / "called").read_text().startswith("-m compileall")
    assert "pip" not in (clone / "called").read_text()
