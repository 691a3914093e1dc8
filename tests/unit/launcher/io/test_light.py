"""The light profile's files: kernels and initrds unpacked, and every damaged one refused with its name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.core.bzimage import KernelUnusable, check_pvh, payload, plain_end
from launcher.errors import HostNotCapable
from launcher.image.cpio import archive, file
from launcher.io.light import light_files
from launcher.io.toolchain import Toolchain
from launcher.io.unpack import UnpackFailed, unpack
from policy.errors import CvmError

_PADDED = archive([file("init", b"#!/bin/sh\n", executable=True), file("etc/empty", b"")])
ARCHIVE = _PADDED[: plain_end(_PADDED, 0, "initrd")]


def elf(owner: bytes = b"Xen\0", kind: int = 18) -> bytes:
    """One segment of notes, one note."""
    header = bytearray(64)
    header[:6], header[32:40], header[56:58] = b"\x7fELF\x02\x01", struct.pack("<Q", 64), struct.pack("<H", 1)
    note = struct.pack("<III", len(owner), 8, kind) + owner + struct.pack("<Q", 0x1000000)
    return bytes(header) + struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(note), len(note), 4) + note


def bzimage(packed: bytes, size: int, *, version: int = 0x20F) -> bytes:
    """Boot sector and one setup sector, then the payload with its size unpacked."""
    data = bytearray(1024)
    data[0x1F1], data[0x202:0x206], data[0x206:0x208] = 1, b"HdrS", struct.pack("<H", version)
    data[0x248:0x250] = struct.pack("<II", 0, len(packed) + 4)
    return bytes(data) + packed + struct.pack("<I", size)


def zstd(data: bytes) -> bytes:
    """A frame of one raw block (RFC 8878, 3.1.1.2): no compressor needed."""
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data)) + (len(data) << 3 | 1).to_bytes(3, "little") + data


PACKERS = {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress, "zstd": zstd,
           "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE)}  # fmt: skip


@pytest.fixture
def tools(tmp_path: Path) -> Toolchain:
    (tmp_path / "roms").mkdir()
    (tmp_path / "roms" / "qboot.rom").write_bytes(b"rom")
    return Toolchain(("qemu", "-L", str(tmp_path / "roms")), {}, "11.1.3", tmp_path, tmp_path, "cache")


def files(tmp_path: Path, tools: Toolchain, kernel: bytes, initrd: bytes | None = None) -> tuple[bytes, bytes | None]:
    (tmp_path / "k").write_bytes(kernel)
    if initrd is not None:
        (tmp_path / "i").write_bytes(initrd)
    found = light_files(str(tmp_path / "k"), None if initrd is None else str(tmp_path / "i"), tools, tmp_path / "cache")
    return Path(found.kernel).read_bytes(), None if found.initrd is None else Path(found.initrd).read_bytes()


@pytest.mark.parametrize("name", PACKERS)
def test_a_kernel_is_unpacked_whatever_packed_it(name: str, tmp_path: Path, tools: Toolchain) -> None:
    assert files(tmp_path, tools, bzimage(PACKERS[name](elf()), len(elf()))) == (elf(), None)


def test_a_kernel_that_is_no_bzimage_but_elf_is_taken_as_it_is(tmp_path: Path, tools: Toolchain) -> None:
    assert files(tmp_path, tools, elf()) == (elf(), None)


def test_archives_one_behind_the_other_packed_or_not_come_out_in_order(tmp_path: Path, tools: Toolchain) -> None:
    packed = ARCHIVE + bytes(8) + zstd(ARCHIVE) + bytes(3) + gzip.compress(ARCHIVE)
    assert files(tmp_path, tools, elf(), packed)[1] == ARCHIVE * 3


def test_the_second_launch_finds_what_the_first_unpacked(tmp_path: Path, tools: Toolchain) -> None:
    files(tmp_path, tools, bzimage(zstd(elf()), len(elf())))
    kept = next((tmp_path / "cache" / "light").iterdir())
    before = kept.stat().st_mtime_ns
    files(tmp_path, tools, bzimage(zstd(elf()), len(elf())))
    assert kept.stat().st_mtime_ns == before


def test_another_kernel_under_the_same_name_is_not_mistaken_for_it(tmp_path: Path, tools: Toolchain) -> None:
    files(tmp_path, tools, elf())
    other = elf() + b"more"
    assert files(tmp_path, tools, other)[0] == other


def test_a_qemu_without_qboot_cannot_run_it(tmp_path: Path, tools: Toolchain) -> None:
    (tmp_path / "roms" / "qboot.rom").unlink()
    with pytest.raises(HostNotCapable, match=r"no qboot\.rom"):
        files(tmp_path, tools, elf())


@pytest.mark.parametrize(
    ("kernel", "says"),
    [
        (b"MZ" + bytes(100), "want"),
        (bytes(2048), "no Linux boot header"),
        (bzimage(zstd(elf()), len(elf()), version=0x207), "boot protocol 2.07"),
        (bzimage(zstd(elf()), len(elf()))[:-40], "the file ends at"),
        (bzimage(b"????????", 99), "no compression known here"),
        (bzimage(zstd(elf()), 1 << 31), "bytes unpacked, want 1 to"),
        (bzimage(zstd(elf()), len(elf()) + 1), "its header says"),
        (bzimage(zstd(elf()), len(elf()) - 1), "more than"),
        (bzimage(zstd(b"hello"), 5), "magic"),
        (bzimage(zstd(elf(kind=17)), len(elf())), "without CONFIG_PVH"),
        (bzimage(zstd(elf(owner=b"GNU\0")), len(elf())), "without CONFIG_PVH"),
    ],
)
def test_a_kernel_that_cannot_be_started_so_is_named(
    kernel: bytes, says: str, tmp_path: Path, tools: Toolchain
) -> None:
    with pytest.raises(CvmError, match=says):
        files(tmp_path, tools, kernel)
    assert not list((tmp_path / "cache").glob("light/*"))


@pytest.mark.parametrize("name", PACKERS)
def test_a_stream_that_is_cut_short_is_not_taken_for_a_whole_one(name: str) -> None:
    packed = PACKERS[name](b"hello" * 100)
    with pytest.raises(UnpackFailed):
        unpack(packed[: len(packed) // 2], name, 1000, "initrd")


@pytest.mark.parametrize("name", PACKERS)
def test_no_more_than_what_is_allowed_comes_out(name: str) -> None:
    with pytest.raises(UnpackFailed, match="more than 99 bytes"):
        unpack(PACKERS[name](bytes(1000)), name, 99, "initrd")


def test_this_machines_own_zstd_is_read(tmp_path: Path) -> None:
    done = subprocess.run(["zstd", "-q", "-c"], input=b"hello" * 10000, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("no zstd here")
    assert unpack(done.stdout + b"more", "zstd", 1 << 20, "x") == (b"hello" * 10000, len(done.stdout))


@given(st.binary(max_size=700))
def test_any_bytes_are_a_kernel_or_our_error(data: bytes) -> None:
    for tried in (data, elf()[: len(data)] + data, bzimage(data, len(data))):
        for check in (payload, check_pvh):
            try:
                check(tried, "kernel")
            except KernelUnusable:
                continue


@given(st.binary(max_size=300), st.integers(0, len(ARCHIVE)))
def test_any_bytes_are_an_archive_or_our_error(data: bytes, cut: int) -> None:
    try:
        end = plain_end(ARCHIVE[:cut] + data, 0, "initrd")
    except KernelUnusable:
        return
    assert 0 < end <= cut + len(data)
