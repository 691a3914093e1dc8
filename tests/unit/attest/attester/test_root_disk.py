"""A root file system is read through before it is used; nothing about its tree is read from the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from attest.attester import root_disk
from attest.attester.cmdline import RootOrder
from attest.attester.errors import RootFailed
from policy.verity import BLOCK

ORDER = RootOrder("root", 600, "ab" * 32)


def image(folder: Path) -> Path:
    path = folder / "mapped"
    path.write_bytes(bytes(ORDER.blocks * BLOCK))
    return path


def test_a_root_whose_every_block_can_be_read_passes(tmp_path: Path) -> None:
    root_disk.read_through(image(tmp_path), ORDER)


@pytest.mark.parametrize("bad", [0, 255, 256, 599])
def test_the_first_block_that_the_kernel_refuses_is_named(
    bad: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pread

    def pread(descriptor: int, size: int, at: int) -> bytes:
        if at <= bad * BLOCK < at + size:
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, size, at)

    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(RootFailed, match=f"block {bad} of 600 .* abababababababab") as failed:
        root_disk.read_through(image(tmp_path), ORDER)
    assert failed.value.code == "guest.root-changed"


def test_a_root_shorter_than_was_measured_is_refused(tmp_path: Path) -> None:
    path = image(tmp_path)
    os.truncate(path, 599 * BLOCK)
    with pytest.raises(RootFailed, match="block 599"):
        root_disk.read_through(path, ORDER)


def test_everything_about_the_tree_comes_from_the_command_line() -> None:
    words = root_disk.open_words(ORDER, Path("/dev/vdb"))
    assert "--no-superblock" in words
    assert words[-4:] == ["/dev/vdb", "root", "/dev/vdb", "ab" * 32]
    assert words[words.index("--data-blocks") + 1] == "600"
    assert words[words.index("--hash-offset") + 1] == str(600 * BLOCK)
    assert words[words.index("--salt") + 1] == "-"
