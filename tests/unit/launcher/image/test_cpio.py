"""launcher.image.cpio against a reader written from the format's description."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.image.cpio import Node, archive, device, file, folder, symlink
from launcher.image.errors import ImageError

NAMES = st.text(alphabet="abcé.-_ ", min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


def members(data: bytes) -> list[tuple[str, dict[str, int], bytes]]:
    """Name, header fields and content of each member, the trailer left out."""
    fields = [
        "inode",
        "mode",
        "uid",
        "gid",
        "nlink",
        "mtime",
        "filesize",
        "devmajor",
        "devminor",
        "rdevmajor",
        "rdevminor",
        "namesize",
        "check",
    ]
    found, position = [], 0
    while True:
        assert data[position : position + 6] == b"070701"
        numbers = [int(data[position + 6 + 8 * i : position + 14 + 8 * i], 16) for i in range(13)]
        header = dict(zip(fields, numbers, strict=True))
        name = data[position + 110 : position + 110 + header["namesize"] - 1].decode()
        start = (position + 110 + header["namesize"] + 3) // 4 * 4
        if name == "TRAILER!!!":
            assert not any(data[start:])
            return found
        found.append((name, header, data[start : start + header["filesize"]]))
        position = (start + header["filesize"] + 3) // 4 * 4


@given(st.dictionaries(PATHS, st.binary(max_size=40), max_size=8), st.randoms(use_true_random=False))
def test_what_is_written_is_read_back_in_any_order_of_input(contents: dict[str, bytes], random: object) -> None:
    nodes = [file(path, data) for path, data in contents.items()]
    try:
        blob = archive(nodes)
    except ImageError:
        assert any(other.startswith(f"{path}/") for path in contents for other in contents)
        return
    random.shuffle(nodes)  # type: ignore[attr-defined]
    assert archive(nodes) == blob
    assert len(blob) % 512 == 0
    read = members(blob)
    assert {name: data for name, header, data in read if stat.S_ISREG(header["mode"])} == contents
    assert all(header["mtime"] == header["uid"] == header["gid"] == 0 for _, header, _ in read)


@given(PATHS)
def test_folders_come_before_what_is_in_them(path: str) -> None:
    names = [name for name, _, _ in members(archive([file(path, b""), folder("zz"), file("zz.a", b"")]))]
    parents = ["/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1)]
    assert all(names.index(parent) < names.index(path) for parent in parents)
    assert len(set(names)) == len(names)


def test_links_devices_and_permissions_keep_their_kind() -> None:
    found = {
        name: (header["mode"], header["rdevmajor"], header["rdevminor"], data)
        for name, header, data in members(
            archive(
                [
                    symlink("bin", "usr/bin"),
                    device("dev/console", 5, 1),
                    folder("tmp", 0o1777),
                    file("x", b"", executable=True),
                ]
            )
        )
    }
    assert found["bin"] == (stat.S_IFLNK | 0o777, 0, 0, b"usr/bin")
    assert found["dev/console"] == (stat.S_IFCHR | 0o600, 5, 1, b"")
    assert found["dev"][0] == stat.S_IFDIR | 0o755
    assert found["tmp"][0] == stat.S_IFDIR | 0o1777
    assert found["x"][0] == stat.S_IFREG | 0o755


@pytest.mark.parametrize("path", ["", "/etc/passwd", "a/../b", "./a", "a//b", "a/", "a\0b", "TRAILER!!!"])
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(ImageError, match="relative and plain"):
        archive([file(path, b"")])


def test_a_path_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ImageError, match="there twice"):
        archive([file("a", b"1"), file("a", b"2")])


def test_a_file_below_a_file_or_a_link_is_refused() -> None:
    for above in (file("a", b""), symlink("a", "b")):
        with pytest.raises(ImageError, match="not a folder"):
            archive([above, file("a/b", b"")])


def test_a_folder_with_its_own_permissions_is_not_replaced_by_an_implied_one() -> None:
    modes = {name: header["mode"] for name, header, _ in members(archive([file("root/x", b""), folder("root", 0o700)]))}
    assert modes["root"] == stat.S_IFDIR | 0o700


@pytest.mark.skipif(shutil.which("cpio") is None, reason="GNU cpio is not installed")
def test_gnu_cpio_lists_the_same_members(tmp_path: Path) -> None:
    blob = archive([file("etc/hosts", b"127.0.0.1\n"), symlink("lib", "usr/lib"), Node("d", stat.S_IFDIR | 0o755)])
    listed = (
        subprocess.run(["cpio", "-it", "--quiet"], input=blob, capture_output=True, check=True).stdout.decode().split()
    )
    assert listed == [name for name, _, _ in members(blob)]
