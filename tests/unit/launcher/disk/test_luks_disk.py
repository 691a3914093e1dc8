"""Disks made for real with cryptsetup and mke2fs, and read back without device-mapper."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from launcher.image.errors import DiskFailed
from launcher.image.luks_disk import MINIMUM_SIZE, PAYLOAD_OFFSET, DiskSecrets, _written, write_disk
from launcher.image.xts import decrypt_sectors
from policy.luks_header import check_luks_header, header_digest
from policy.luks_metadata import HeaderRefused
from policy.secret import SecretBytes

ADMIN_PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"
KEY, VOLUME_KEY = bytes(range(32)), bytes(range(64, 128))
SIZE = 40 << 20

needs_tools = pytest.mark.skipif(
    not all(shutil.which(tool, path=ADMIN_PATH) for tool in ("cryptsetup", "mke2fs", "e2fsck", "debugfs")),
    reason="cryptsetup or e2fsprogs is not installed",
)


def secrets() -> DiskSecrets:
    return DiskSecrets(SecretBytes(KEY), SecretBytes(VOLUME_KEY))


def tool(*command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, input=stdin, capture_output=True, env={"PATH": ADMIN_PATH}, check=False)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with two files."""
    folder = tmp_path_factory.mktemp("disk with space")
    content = folder / "content"
    content.mkdir()
    (content / "message").write_text("hello from inside\n")
    (content / "run").write_text("#!/bin/sh\n")
    (content / "run").chmod(0o755)
    image = folder / "image"
    image.touch()
    digest = write_disk(image, SIZE, secrets(), content)
    (folder / "image.header").write_text(digest)
    return image


@needs_tools
def test_the_key_opens_the_disk_and_another_does_not(disk: Path) -> None:
    command = ("cryptsetup", "open", "--test-passphrase", "--key-file", "-", str(disk))
    assert tool(*command, stdin=KEY).returncode == 0
    assert tool(*command, stdin=KEY[::-1]).returncode == 2


@needs_tools
def test_the_header_is_what_the_guest_accepts(disk: Path) -> None:
    with disk.open("rb") as file:
        data = file.read(PAYLOAD_OFFSET)
    header = check_luks_header(data)
    assert header_digest(data, header) == disk.with_name("image.header").read_text()
    assert [slot.iterations for slot in header.slots] == [1000]


@needs_tools
def test_cryptsetup_finds_the_volume_key_that_was_chosen_here(disk: Path) -> None:
    dumped = tool(
        "cryptsetup", "luksDump", "--batch-mode", "--dump-volume-key", "--key-file", "-", str(disk), stdin=KEY
    )
    assert bytes.fromhex(re.sub(r"\s", "", re.split(r"dump:", dumped.stdout.decode())[-1])) == VOLUME_KEY


@needs_tools
def test_the_file_system_is_sound_although_unwritten_blocks_are_noise(disk: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(decrypt_sectors(VOLUME_KEY, 0, disk.read_bytes()[PAYLOAD_OFFSET:]))
    assert tool("e2fsck", "-fn", str(plain)).returncode == 0
    assert tool("debugfs", "-R", "cat /message", str(plain)).stdout == b"hello from inside\n"
    assert b"Mode:  0755" in tool("debugfs", "-R", "stat /run", str(plain)).stdout


@needs_tools
def test_contents_and_keys_are_nowhere_in_the_image(disk: Path) -> None:
    data = disk.read_bytes()
    assert not any(secret in data for secret in (b"hello from inside", b"message", KEY, VOLUME_KEY))


@needs_tools
def test_the_image_is_sparse_and_has_the_size_asked_for(disk: Path) -> None:
    assert disk.stat().st_size == SIZE
    assert disk.stat().st_blocks * 512 < 24 << 20


@needs_tools
def test_no_plain_text_file_is_left_beside_the_image(disk: Path) -> None:
    assert sorted(path.name for path in disk.parent.iterdir()) == ["content", "image", "image.header"]


def spy(folder: Path, name: str) -> None:
    """A tool that records its arguments and environment, reads its input, and opens the volume key's pipe."""
    script = folder / name
    script.write_text(f'#!/bin/sh\n(echo "$@"; env) >"{folder}/{name}.seen"\ncat >/dev/null\n')
    script.chmod(0o755)


def test_keys_are_in_no_argument_and_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy(tmp_path, "cryptsetup")
    spy(tmp_path, "mke2fs")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    image = tmp_path / "image"
    image.touch()
    with pytest.raises(HeaderRefused, match="magic 0000"):  # what was to make the header did nothing
        write_disk(image, MINIMUM_SIZE, secrets(), None)
    seen = (tmp_path / "cryptsetup.seen").read_bytes() + (tmp_path / "mke2fs.seen").read_bytes()
    assert b"luksFormat" in seen
    for secret in (KEY, VOLUME_KEY):
        assert secret not in seen
        assert secret.hex().encode() not in seen


@pytest.mark.parametrize("size", [0, 4096, MINIMUM_SIZE - 4096, MINIMUM_SIZE + 512])
def test_a_size_that_cannot_be_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(DiskFailed, match="multiple of 4096"):
        write_disk(tmp_path / "image", size, secrets(), None)


def test_a_missing_folder_of_contents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DiskFailed, match="no such folder"):
        write_disk(tmp_path / "image", MINIMUM_SIZE, secrets(), tmp_path / "gone")


@needs_tools
def test_contents_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "big").write_bytes(os.urandom(12 << 20))
    (tmp_path / "image").touch()
    with pytest.raises(DiskFailed, match="mke2fs"):
        write_disk(tmp_path / "image", MINIMUM_SIZE, secrets(), tmp_path / "content")


def test_a_missing_tool_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.image.luks_disk._ADMIN_PATH", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "image").touch()
    with pytest.raises(DiskFailed) as caught:
        write_disk(tmp_path / "image", MINIMUM_SIZE, secrets(), None)
    assert "cryptsetup-bin" in str(caught.value.hint)


def test_keys_of_another_length_are_misuse() -> None:
    with pytest.raises(TypeError):
        DiskSecrets(SecretBytes(b"short"), SecretBytes(VOLUME_KEY))


def test_written_parts_are_whole_sectors_in_order(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 20)
        for offset in (5000, 300_000, (1 << 20) - 10):
            file.seek(offset)
            file.write(b"data")
    descriptor = os.open(path, os.O_RDONLY)
    parts = list(_written(descriptor))
    os.close(descriptor)
    assert all(start % 4096 == 0 and end % 4096 == 0 for start, end in parts)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(parts))
    assert all(any(s <= o < e for s, e in parts) for o in (5000, 300_000, (1 << 20) - 10))
    assert stat.S_ISREG(path.stat().st_mode)
