"""Boot disks: read back by our own readers of disks and by sgdisk, held against another writer of unified images."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from launcher.boot_disks import make_boot_disk
from launcher.errors import PlanRefused
from launcher.image.efi import esp
from launcher.image.efi.esp import boot_disk
from launcher.image.efi.unified import unified
from launcher.image.errors import ImageError, ImageExists
from launcher.provision import ImageOrder
from ovmf.fat import FatVolume
from ovmf.gpt import EFI_SYSTEM, parse_gpt
from ovmf.pe import parse_pe
from tests.fakes.unified import unified as by_another
from tests.unit.ovmf.test_pe import small_pe

PARTS = [(".osrel", b"ID=x\n"), (".cmdline", b"quiet"), (".initrd", bytes(5000)), (".linux", b"MZ" + bytes(9000))]
PATH = "EFI/BOOT/BOOTX64.EFI"


def stub(
    *, align: tuple[int, int] = (4096, 512), machine: int = 0x8664, headers: int = 1024, signed: bytes = b""
) -> bytes:
    """A stub of no code, with room for sections in its headers."""
    image = bytearray(small_pe(sections=[(headers, 512)], headers=headers, certificate=signed))
    struct.pack_into("<H", image, 64 + 4, machine)
    struct.pack_into("<II", image, 64 + 56, *align)
    return bytes(image)


def test_sections_are_where_another_writer_puts_them_and_hold_what_they_should() -> None:
    made = unified(stub(), PARTS)
    assert made == by_another(stub(), dict(PARTS))
    image = parse_pe(made)
    for name, data in PARTS:
        section = image.named(name)
        assert section is not None
        assert made[section.offset : section.offset + section.virtual_size] == data


@pytest.mark.parametrize(
    ("image", "parts", "problem"),
    [
        (b"no PE", PARTS, "EFI stub: "),
        (stub(machine=0xAA64), PARTS, "for machine 0xaa64"),
        (stub(align=(0, 0)), PARTS, "sections aligned to 0 and 0"),
        (stub(signed=b"c" * 16), PARTS, "is signed"),
        (stub(headers=512), PARTS, "no room for 4 more sections"),
        (stub(), [(".linux", b"")], "section .linux: want one with contents"),
        (stub(), [(".x", b"1")], "section .x: want one"),
        (stub(), [(".waytoolong", b"1")], "a name of 8 characters"),
    ],
)
def test_a_stub_or_a_part_that_cannot_be_is_refused(image: bytes, parts: list[tuple[str, bytes]], problem: str) -> None:
    with pytest.raises(ImageError, match=problem):
        unified(image, parts)


@pytest.mark.parametrize("size", [1, 2048, 9_000_000, 9_300_000])
def test_firmware_finds_the_file_whatever_its_size(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esp, "_MOST", 4500)  # so that the last one needs larger clusters
    data = (b"%08d" % size) * (size // 8 + 1)
    disk = boot_disk(PATH, data[:size])
    (partition,) = parse_gpt(disk).partitions
    assert partition.type == EFI_SYSTEM
    volume = FatVolume(memoryview(disk)[partition.start : partition.start + partition.size])
    assert volume.read(PATH) == data[:size]


def test_the_same_contents_make_the_same_disk_and_others_another() -> None:
    assert boot_disk(PATH, b"one") == boot_disk(PATH, b"one") != boot_disk(PATH, b"two")


def test_what_no_fat16_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esp, "_PER_CLUSTER", (1,))
    with pytest.raises(ImageError, match="do not fit into FAT16"):
        boot_disk(PATH, bytes(65523 * 512 + 1))


@pytest.mark.skipif(shutil.which("sgdisk", path="/usr/sbin:/sbin") is None, reason="no sgdisk")
def test_sgdisk_finds_both_tables_and_no_problem(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(boot_disk(PATH, b"x" * 100_000))
    done = subprocess.run(["/usr/sbin/sgdisk", "-v", tmp_path / "disk"], capture_output=True, text=True, check=False)
    assert "No problems found" in done.stdout, done.stdout + done.stderr


VM = """
schema = 1
name = "vm"
platform = "{}"
memory = "256MiB"
[[disk]]
path = "disk.img"
{}
"""


@pytest.mark.parametrize(
    ("platform", "boot", "problem"),
    [
        ("emulated-snp", '[boot]\nkernel = "k"\ninitrd = "i"', "in no launch digest"),
        ("none", '[boot]\nkernel = "k"', "want .boot. kernel and initrd"),
        ("none", "", "want .boot. kernel and initrd"),
    ],
)
def test_a_vm_of_which_no_disk_can_be_made_is_refused(
    platform: str, boot: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVM_STATE", str(tmp_path))
    for name in ("k", "i"):
        (tmp_path / name).write_bytes(b"x" * 4096)
    (tmp_path / "vm.toml").write_text(VM.format(platform, boot))
    with pytest.raises(PlanRefused, match=problem):
        make_boot_disk(tmp_path / "out", str(tmp_path / "vm.toml"), ImageOrder(), lambda text: None)
    assert not (tmp_path / "out").exists()


def test_an_existing_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"kept")
    with pytest.raises(ImageExists):
        make_boot_disk(tmp_path / "out", "vm.toml", ImageOrder(), lambda text: None)
    assert (tmp_path / "out").read_bytes() == b"kept"
