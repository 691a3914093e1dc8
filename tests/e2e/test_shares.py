"""Folders of the host in an ordinary VM: real virtiofsd in its jail, and a real guest that reads, writes, is refused."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.core.debian import Package
from launcher.image.base import Base
from launcher.image.cpio import Node, archive, device, file, symlink
from launcher.image.kernel import read_kernel
from launcher.io.cachedir import cache_folder
from launcher.io.toolchain import find_toolchain, has_storage
from tests.e2e.root_tree import plant
from tests.e2e.test_root import base
from tests.until import until

__all__ = ["base"]  # a fixture

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

VM = """
schema = 1
name = "sharing"
platform = "none"
accel = "tcg"
light = true
memory = "256MiB"
[boot]
kernel = "{image}/vmlinuz"
initrd = "initrd"
[[share]]
path = "work"
tag = "work"
readonly = false
[[share]]
path = "shown"
tag = "shown"
"""
LOOK = """#!/bin/sh
for module in /*.ko; do insmod $module; done
mkdir /work /shown
mount -t virtiofs work /work && mount -t virtiofs shown /shown && exec >/work/report 2>/dev/null
echo "read $(cat /work/from-host) $(cat /shown/folder/text)"
mkdir /work/new && echo written >/work/new/file && mv /work/new/file /work/moved && echo wrote
echo "owners $(stat -c %u /work/moved) $(stat -c %u /work/from-host)"
touch /shown/x || echo cannot write what is shown
cat /shown/secret || echo cannot read what only root reads
echo >/work/waits
until [ -e /work/go ]; do sleep 0.2; done
poweroff -f
"""
PROGRAMS = ("sh", "cat", "insmod", "mkdir", "mount", "mv", "stat", "touch", "sleep", "poweroff")
OWNER = 12345


def kernel_of(image: Base) -> Package:
    """The kernel's package, as apt left it."""
    archives = cache_folder() / "apt-trixie" / "archives"
    for item in image.inputs:
        if item["name"] == f"linux-image-{image.release}":
            path = archives / f"{item['name']}_{item['version']}_amd64.deb"
            return Package(item["name"], item["version"], "amd64", item["sha256"], path)
    raise AssertionError(f"the base has no kernel {image.release} among its packages")


def _modules(image: Base) -> Iterator[Node]:
    """What a guest needs for virtiofs, in the order of loading."""
    nodes = read_kernel([kernel_of(image)], ("virtiofs",)).nodes
    for number, node in enumerate(item for item in nodes if item.path.endswith(".ko")):
        yield file(f"{number}.ko", node.data)


def _packed(tree: Path) -> Iterator[Node]:
    for path in tree.rglob("*"):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            yield symlink(name, os.readlink(path))
        elif path.is_file():
            yield file(name, path.read_bytes(), executable=True)


_INIT = (file("init", LOOK.encode(), executable=True), device("dev/console", 5, 1), device("dev/null", 1, 3))


@pytest.fixture
def folder(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A VM file, an initrd that works in its shares, and the two folders."""
    if not has_storage(find_toolchain()):
        pytest.skip("no virtiofsd beside QEMU: sh launcher/setup.sh test")
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))
    tree = tmp_path / "tree"
    plant(base, tree, PROGRAMS)
    (tmp_path / "initrd").write_bytes(archive([*_packed(tree), *_modules(base), *_INIT]))
    (tmp_path / "vm.toml").write_text(VM.format(image=cache_folder() / "image"))
    (tmp_path / "shown" / "folder").mkdir(parents=True)
    (tmp_path / "shown" / "folder" / "text").write_text("shown")
    (tmp_path / "shown" / "secret").write_text("secret")
    (tmp_path / "shown" / "secret").chmod(0o600)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "from-host").write_text("shared")
    if os.geteuid() == 0:
        for path in (tmp_path / "work", tmp_path / "work" / "from-host"):
            os.chown(path, OWNER, OWNER)
    return tmp_path


def daemons(launcher: int) -> list[dict[str, str]]:
    """/proc/PID/status of the launcher's virtiofsds, and what their root holds."""
    found = []
    for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if any(word.endswith(b"/libexec/virtiofsd") for word in words):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            found.append(status | {"root": " ".join(sorted(os.listdir(f"/proc/{pid}/root")))})
    return found


def test_a_guest_works_in_a_folder_reads_another_and_its_daemons_hold_nothing_else(folder: Path) -> None:
    argv = [sys.executable, "-m", "launcher", "launch", str(folder / "vm.toml"), "--json"]
    launcher = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        until(lambda: launcher.poll() is not None or (folder / "work" / "waits").exists(), "the guest has looked")
        seen = daemons(launcher.pid) if launcher.poll() is None else []
        (folder / "work" / "go").touch()
        out, err = launcher.communicate()
    finally:
        launcher.kill()
        launcher.wait()
    assert launcher.returncode == 0, err.decode()
    assert json.loads(out)["state"] == "stopped"
    said = (folder / "work" / "report").read_text().splitlines()
    assert said[:3] == ["read shared shown", "wrote", "owners 0 0"]
    assert "cannot write what is shown" in said
    assert (folder / "work" / "moved").read_text() == "written\n"
    assert stat.S_ISDIR((folder / "work" / "new").stat().st_mode)
    assert not (folder / "shown" / "x").exists()
    assert len(seen) == 2
    for status in seen:
        assert (status["CapEff"], status["CapBnd"], status["NoNewPrivs"], status["Seccomp"]) == (
            "0" * 16, "0" * 16, "1", "2",
        )  # fmt: skip
        assert "etc" not in status["root"].split() and "home" not in status["root"].split()
    if os.geteuid() == 0:
        assert (folder / "work" / "moved").stat().st_uid == OWNER
        assert "cannot read what only root reads" in said
        users = [status["Uid"].split()[1] for status in seen]
        assert users[0] == str(OWNER) and int(users[1]) >= 1_900_000_000
