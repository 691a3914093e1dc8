"""Root file systems with a hash tree: the same bytes twice; the real guest runs from one, and stops at a changed one."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from launcher.image.base import Base
from launcher.image.errors import ImageError
from launcher.image.verity import write_root
from launcher.io.cachedir import cache_folder
from launcher.io.toolchain import ToolchainMissing, find_toolchain
from launcher.provision import ImageOrder, ensure_base
from policy.verity import BLOCK
from tests.e2e.root_tree import plant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

VM = """
schema = 1
name = "rooted"
platform = "{platform}"
light = {light}
memory = "512MiB"
[boot]
kernel = "{image}/vmlinuz"
initrd = "{image}/initrd.zst"
[[disk]]
path = "{root}"
[disk.verity]
root_hash = "{root_hash}"
blocks = {blocks}
[guest]
run = "/bin/hello"
poweroff = true
"""
HELLO = """#!/bin/sh
echo "hello from $(cat /etc/name), $(ls -d /proc/self /run /dev/null | wc -l) places"
touch /etc/x 2>/dev/null || echo the root cannot be written
touch /tmp/x && echo /tmp can
"""


@pytest.fixture(scope="module")
def base() -> Base:
    """The base the set-up built."""
    try:
        find_toolchain()
    except ToolchainMissing as exc:
        pytest.skip(exc.message)
    if not (cache_folder() / "image" / "manifest.json").is_file():
        pytest.skip("no guest image in the cache: `make test` builds it")
    return ensure_base(ImageOrder(reuse=True), lambda text: None)


@pytest.fixture(scope="module")
def tree(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of a few files: busybox of the guest's Debian with its libraries, a program, and something to damage."""
    root = tmp_path_factory.mktemp("tree")
    plant(base, root, ("sh", "cat", "ls", "wc", "touch"))
    (root / "usr/bin/hello").write_text(HELLO)
    (root / "usr/bin/hello").chmod(0o755)
    (root / "unread").write_bytes(os.urandom(1 << 20))
    return root


def make(folder: Path, name: str, tree: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """`cvm image root`"""
    assert main(["image", "root", str(folder / name), "--content", str(tree), "--json"]) == 0
    made: dict[str, Any] = json.loads(capsys.readouterr().out)
    return made


def vm_file(folder: Path, made: dict[str, Any], platform: str) -> str:
    """A VM with this root; an ordinary one is light."""
    vm = folder / "vm.toml"
    words = {key: made[key] for key in ("root_hash", "blocks")}
    light = str(platform == "none").lower()
    vm.write_text(VM.format(image=cache_folder() / "image", root=made["path"], platform=platform, light=light, **words))
    return str(vm)


def boot(vm: str, capsys: pytest.CaptureFixture[str], code: int) -> dict[str, Any]:
    """`cvm launch`"""
    assert main(["launch", vm, "--json"]) == code
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_two_builds_are_byte_identical_whenever_and_wherever_they_are_made(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make(tmp_path, "one", tree, capsys)
    other = tmp_path / "another place with spaces"
    shutil.copytree(tree, other, symlinks=True)
    for path in other.rglob("*"):
        os.utime(path, (7, 7), follow_symlinks=False)
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    two = make(tmp_path, "two", other, capsys)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert one["root_hash"] == two["root_hash"]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert make(tmp_path, "dated", tree, capsys)["root_hash"] != one["root_hash"]


def _at(seconds: int, member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime, member.uid = seconds, 7
    return member


def test_a_tar_archive_makes_the_same_root_whenever_it_was_packed(base: Base, tree: Path, tmp_path: Path) -> None:
    made = []
    for seconds in (1, 2):
        archive = tmp_path / f"{seconds}.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(tree, ".", filter=partial(_at, seconds))
        made.append(write_root(tmp_path / f"{seconds}.img", archive, base.sysroot, 0))
    assert made[0] == made[1]
    (tmp_path / "none.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(ImageError, match=r"none\.tar: want a folder or an uncompressed tar archive"):
        write_root(tmp_path / "none.img", tmp_path / "none.tar", base.sysroot, 0)


def test_a_measured_guest_runs_from_its_root_and_cannot_write_to_it(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))
    vm = vm_file(tmp_path, make(tmp_path, "root.img", tree, capsys), "emulated-snp")
    assert main(["measure", vm, "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["launch_digest"]
    result = boot(vm, capsys, 0)
    assert (result["outcome"], result["state"]) == ("ran", "stopped")
    assert {"kernel", "booted", "running", "stopped"} <= set(result["seconds"])
    assert result["launch_digest"] == expected
    assert "hello from the root, 3 places\n" in result["payload_output"]
    assert "the root cannot be written\n/tmp can\n" in result["payload_output"]


def test_one_changed_bit_that_nothing_would_have_read_stops_the_boot(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))
    made = make(tmp_path, "root.img", tree, capsys)
    block = made["blocks"] // 2
    with (tmp_path / "root.img").open("r+b") as file:
        file.seek(block * BLOCK + 100)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    result = boot(vm_file(tmp_path, made, "none"), capsys, 9)
    assert result["state"] == "failed"
    assert f"root root: block {block} of {made['blocks']} is not what the measured root hash" in result["reason"]
    assert result["payload_output"] == ""
