"""Boots from a disk image: partition table, FAT, boot application."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovmf.errors import DiskMalformed
from ovmf.fat import FatVolume
from ovmf.gpt import parse_gpt
from ovmf.pe import authenticode
from ovmf.td_disk import DEFAULT_PATH, DiskBoot
from ovmf.td_predict import predict_td
from tests.fakes.disks import FIRST, SECTOR, fat16, fat16_of, gpt_disk
from tests.unit.ovmf.test_pe import small_pe
from tests.unit.ovmf.test_td_predict import MACHINE, NEW, SMBIOS, firmware, kernel

VOLUME = fat16(DEFAULT_PATH, kernel())
DISK = gpt_disk(VOLUME)


def test_the_application_and_the_partition_table_are_what_firmware_measures() -> None:
    found = DiskBoot(DISK, exit_failures=1).events(NEW, "tdx")
    gpt, application = found.after
    table = DISK[2 * SECTOR : 2 * SECTOR + 128]
    assert gpt.digest == hashlib.sha384(DISK[SECTOR : SECTOR + 92] + b"\1" + bytes(7) + table).digest()
    assert application.digest == authenticode(kernel())
    assert len(found.exit) == 4
    assert found.unpredicted == ()


def test_a_disk_s_boot_options_are_named_as_unknown_unless_given() -> None:
    disk = DiskBoot(DISK, exit_failures=0)
    bare = predict_td(firmware(), MACHINE, disk, layout=NEW, rtmr3_stays_zero=True)
    assert bare.rtmrs[0] is None
    assert [text[:5] for text in bare.unpredicted] == ["RTMR0"]
    given_ = predict_td(
        firmware(), MACHINE._replace(boot_options=NEW.boot_options), disk, layout=NEW, rtmr3_stays_zero=True
    )
    assert given_.unpredicted == ()


def test_a_boot_loader_s_own_measurements_are_named_not_guessed() -> None:
    found = DiskBoot(gpt_disk(fat16(DEFAULT_PATH, small_pe()))).events(NEW, "tdx")
    assert {text[:5] for text in found.unpredicted} == {"RTMR0", "RTMR1", "RTMR2"}
    assert found.exit == ()


@pytest.mark.parametrize("disk", [
    b"", bytes(2000), DISK[:600], gpt_disk(VOLUME, bytes([7]) * 16), gpt_disk(VOLUME, copies=2),
    gpt_disk(fat16("EFI/BOOT/OTHER.EFI", b"x")), gpt_disk(fat16("EFI/BOOT/BOOTX64.EFI/X", b"x")),
    DISK[:0x210] + b"\0\0\0\0" + DISK[0x214:], DISK[:0x400] + b"\0" + DISK[0x401:], DISK[: FIRST * SECTOR + 5000],
])  # fmt: skip
def test_a_disk_that_firmware_would_not_boot_is_refused(disk: bytes) -> None:
    with pytest.raises(DiskMalformed):
        DiskBoot(disk).events(NEW, "tdx")


@pytest.mark.parametrize(("at", "value"), [(446, 0x80), (450, 0x0C), (454, 2), (510, 0), (511, 0)])
def test_a_partition_table_without_a_protective_record_is_refused(at: int, value: int) -> None:
    with pytest.raises(DiskMalformed, match="protective master boot record"):
        parse_gpt(DISK[:at] + bytes([value]) + DISK[at + 1 :])


def test_the_protective_entry_may_be_any_of_the_four() -> None:
    moved = DISK[:446] + bytes(16) + DISK[446:462] + DISK[478:]
    assert parse_gpt(moved) == parse_gpt(DISK)


def test_a_file_is_found_by_its_path_without_regard_to_case() -> None:
    data = bytes(range(256)) * 9 + b"end"
    volume = FatVolume(memoryview(fat16("A/B.TXT", data)))
    assert volume.read("a/b.txt") == data
    assert volume.read("A") is None
    assert volume.read("A/C.TXT") is None
    assert volume.read("B.TXT") is None


def test_a_cluster_chain_that_loops_or_ends_early_is_refused() -> None:
    good = fat16("B.TXT", bytes(3000))
    for value in (b"\2\0", b"\xff\xff", b"\0\0", b"\xf0\xff"):
        broken = good[: SECTOR + 4] + value + good[SECTOR + 6 :]
        if value == b"\2\0":  # a loop of one cluster still has enough of them: what it says is what is read
            assert FatVolume(memoryview(broken)).read("B.TXT") == bytes(3000)
            continue
        with pytest.raises(DiskMalformed):
            FatVolume(memoryview(broken)).read("B.TXT")


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=64), st.integers(0, 40 * SECTOR))
def test_damage_raises_our_error_or_reads(noise: bytes, at: int) -> None:
    volume = VOLUME[:at] + noise + VOLUME[at + len(noise) :]
    try:
        FatVolume(memoryview(volume)).read(DEFAULT_PATH)
        parse_gpt(DISK[:at] + noise + DISK[at + len(noise) :])
    except DiskMalformed:
        return


def uki(stub: bytes = b"252.39", **extra: bytes) -> bytes:
    """A unified kernel image with a made-up stub: sections by name, padded in the file."""
    magic = b"#### LoaderInfo: systemd-stub " + stub + b" ####"
    parts = {".sdmagic": magic, ".sbat": b"sbat", ".osrel": b"ID=x", ".cmdline": b"quiet", ".linux": kernel()}
    parts |= {".initrd": b"initrd"} | {f".{name}": data for name, data in extra.items()}
    places = [(1024 * (index + 1) * 3, 3072) for index in range(len(parts))]
    image = bytearray(small_pe(sections=places, headers=3072))
    start = image.index(b".x\0")
    for index, (name, data) in enumerate(parts.items()):
        at = start + 40 * index
        image[at : at + 12] = name.encode().ljust(8, b"\0") + len(data).to_bytes(4, "little")
        image[places[index][0] : places[index][0] + 3072] = data.ljust(3072, b"\0")
    return bytes(image)


def inside(image: bytes, flavour: str = "emulated") -> tuple[list[str], set[str]]:
    found = DiskBoot(gpt_disk(fat16(DEFAULT_PATH, image)), exit_failures=0).events(NEW, flavour)
    return [event.name for event in found.after[2:]], {text[:5] for text in found.unpredicted}


def test_a_unified_kernel_image_is_predicted_section_by_section() -> None:
    found = DiskBoot(gpt_disk(fat16(DEFAULT_PATH, uki())), exit_failures=0).events(NEW, "emulated")
    data = {event.name: event.digest for event in found.after}
    assert data["load-options"] == hashlib.sha384("quiet\0".encode("utf-16-le")).digest()
    assert data["initrd"] == data["ipl:.initrd"] == hashlib.sha384(b"initrd").digest()
    assert data["application"] == authenticode(kernel())
    names, unpredicted = inside(uki())
    sections = [name for name in ("linux", "osrel", "cmdline", "initrd") for _ in range(2)]
    assert names == [*(f"ipl:.{name}" for name in sections), "application", "load-options", "initrd"]
    assert unpredicted == set()


def archive(mode: str, name: bytes, data: bytes, number: int) -> bytes:
    head = (
        b"070701"
        + f"{number:08x}{mode:0>8}{0:016x}{1:08x}{0:08x}{len(data):08x}{0:032x}{len(name):08x}{0:08x}".encode()
    )
    return (head + name).ljust(-(-(len(head) + len(name)) // 4) * 4, b"\0") + data


def test_a_stub_of_release_257_puts_an_archive_with_the_os_release_behind_the_initrd() -> None:
    found = DiskBoot(gpt_disk(fat16(DEFAULT_PATH, uki(b"257.1"))), exit_failures=0).events(NEW, "emulated")
    data = {event.name: event.digest for event in found.after}
    extra = archive("416d", b".extra\0", b"", 1) + archive("8124", b".extra/os-release\0", b"ID=x", 2)
    end = archive("0", b"TRAILER!!!\0", b"", 0).replace(b"0000000b", b"0000000B")
    assert data["initrd"] == hashlib.sha384(b"initrd\0\0" + extra + end).digest()
    assert data["application"] == authenticode(kernel())
    assert "ipl:.sbat" in data
    assert found.unpredicted == ()
    assert not found.smbios


def test_a_stub_of_release_262_measures_smbios_and_only_its_initrd_is_named() -> None:
    disk = DiskBoot(gpt_disk(fat16(DEFAULT_PATH, uki(b"262.1"))), exit_failures=0)
    system = b"\x01\x1b\x01\x00" + bytes(20) + b"\x06\0\0QEMU\0\0"
    machine = MACHINE._replace(smbios=system + SMBIOS, boot_options=NEW.boot_options)
    found = predict_td(firmware(), machine, disk, flavour="emulated", layout=NEW, rtmr3_stays_zero=True)
    names = [event.name for event in found.events]
    assert found.unpredicted == ("RTMR2: the initrd: the stub puts a secret of random numbers into it",)
    assert names[-4:] == ["load-options", "smbios:type1", *names[-2:]]
    assert found.events[-3].digest == hashlib.sha384(system.replace(b"\x06", b"\0")).digest()
    assert names.count("application") == 1


def test_what_a_stub_does_that_is_not_known_is_named() -> None:
    assert inside(uki(b"300.1")) == ([], {"RTMR0", "RTMR1", "RTMR2"})
    assert inside(uki(b"262.1", pcrsig=b"{}")) == ([], {"RTMR0", "RTMR1", "RTMR2"})
    assert inside(uki(splash=b"picture")) == ([], {"RTMR1", "RTMR2"})
    assert inside(uki(), "tdx") == ([], {"RTMR1", "RTMR2"})


@pytest.mark.parametrize("change", [{"initrd": b""}, {"osrel": b""}, {"cmdline": b"a  b"}, {"cmdline": b"quiet\n"}])
def test_an_image_unlike_those_that_were_watched_is_named(change: dict[str, bytes]) -> None:
    for release in (b"252.39", b"257.1"):
        assert inside(uki(release, **change)) == ([], {"RTMR1", "RTMR2"})


def test_variables_of_an_earlier_boot_on_the_disk_are_named() -> None:
    disk = gpt_disk(fat16_of({DEFAULT_PATH: kernel(), "NVVARS": b"x"}))
    found = DiskBoot(disk, exit_failures=0).events(NEW, "emulated")
    assert found.unpredicted == ("RTMR0: variables of an earlier boot, in the file NvVars on the disk",)
