"""ext4 file systems made by ``mke2fs``, and what is refused of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovmf.errors import DiskMalformed
from ovmf.ext4 import Ext4Unsupported, Ext4Volume
from tests.fakes.debian_disk import UUID, ext4

FILES = {"boot/a": b"contents", "boot/deep/er/b": bytes(range(256)) * 700, "boot/empty": b""}
EXTENTS_FLAG = 0x80000


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return ext4(tmp_path_factory.mktemp("ext4"), FILES)


def volume(data: bytes) -> Ext4Volume:
    return Ext4Volume(memoryview(data))


def changed(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


@pytest.mark.parametrize("options", [(), ("-b", "1024"), ("-O", "^64bit,^metadata_csum"), ("-I", "128", "-b", "4096")])
def test_files_are_found_by_their_paths(tmp_path: Path, options: tuple[str, ...]) -> None:
    found = volume(ext4(tmp_path, FILES, *options))
    assert {name: found.read(f"/{name}") for name in FILES} == FILES
    assert found.uuid == UUID
    assert found.holds("/boot/deep")
    assert [found.read(name) for name in ("/boot", "/boot/A", "/boot/a/b", "/none/a")] == [None] * 4


def test_a_file_in_many_extents_and_a_folder_of_many_files_are_read(tmp_path: Path) -> None:
    holes = tmp_path / "root" / "holes"
    holes.parent.mkdir()
    with holes.open("wb") as file:
        for number in range(40):
            file.seek(number * 8192)
            file.write(b"x%02d" % number)
    many = {f"many/{number:04}-a-longer-name-for-a-file": b"%d" % number for number in range(600)}
    found = volume(ext4(tmp_path, many, "-b", "1024", "-N", "1000", size="8M"))
    assert found.read("/holes") == holes.read_bytes()
    assert found.read("/many/0599-a-longer-name-for-a-file") == b"599"


def test_a_link_in_the_path_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to("boot")
    with pytest.raises(Ext4Unsupported, match="link"):
        volume(ext4(tmp_path, FILES)).read("/link/a")


def test_a_journal_that_was_not_emptied_is_not_read_past(image: bytes) -> None:
    features = int.from_bytes(image[1024 + 96 : 1024 + 100], "little") | 0x4
    with pytest.raises(Ext4Unsupported, match="features"):
        volume(changed(image, 1024 + 96, features.to_bytes(4, "little")))


@pytest.mark.parametrize(("at", "value"), [
    (1024 + 56, b"\0\0"), (1024 + 24, b"\x20"), (1024 + 40, bytes(4)), (1024 + 88, b"\3\0"), (1024 + 254, b"\x21\0"),
])  # fmt: skip
def test_a_super_block_that_contradicts_itself_is_refused(image: bytes, at: int, value: bytes) -> None:
    with pytest.raises(DiskMalformed, match="ext4"):
        volume(changed(image, at, value))


def test_a_file_system_that_is_cut_off_is_refused(image: bytes) -> None:
    with pytest.raises(DiskMalformed, match="want them within"):
        volume(image[:9000]).read("/boot/deep/er/b")


def test_an_extent_tree_that_never_ends_is_left(image: bytes) -> None:
    node = image.index(b"\x0a\xf3\1\0\4\0\0\0")  # the root folder's: one extent in the inode
    place = int.from_bytes(image[node + 20 : node + 24], "little")
    size = 1024 << int.from_bytes(image[1024 + 24 : 1024 + 28], "little")
    entries = b"".join(bytes(4) + place.to_bytes(4, "little") + bytes(4) for _ in range(size // 12 - 1))
    for depth in (5, 6):
        head = b"\x0a\xf3" + (size // 12 - 1).to_bytes(2, "little") + b"\0\0" + depth.to_bytes(2, "little") + bytes(4)
        loop = changed(image, node + 2, b"\1\0\4\0" + depth.to_bytes(2, "little") + bytes(4) + bytes(4))
        loop = changed(loop, node + 16, place.to_bytes(4, "little") + bytes(4))
        with pytest.raises(DiskMalformed, match="extent node"):
            volume(changed(loop, place * size, head + entries)).read("/boot/a")
