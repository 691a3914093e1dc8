"""Shim, GRUB and kernel on a disk with Secure Boot on: what is known of them, and what is only named."""

from __future__ import annotations

import hashlib
import re

import pytest

from ovmf.authority import X509
from ovmf.errors import LaunchInvalid
from ovmf.fat import FatVolume
from ovmf.gpt import parse_gpt
from ovmf.grub import LoaderUnknown
from ovmf.grub_disk import GrubDisk
from ovmf.shim import SHIM_LOCK, shim_events
from ovmf.td_disk import DEFAULT_PATH, DiskBoot
from ovmf.td_predict import predict_td
from ovmf.variables import EFI_GLOBAL, IMAGE_SECURITY, variable_data
from policy.measured import MeasuredEvent
from tests.fakes.disks import fat16_of, gpt_disk
from tests.fakes.signed_images import database, make_signer, sign
from tests.unit.ovmf.test_pe import small_pe
from tests.unit.ovmf.test_td_disk import uki
from tests.unit.ovmf.test_td_predict import MACHINE, NEW, PK, firmware, kernel

VENDOR, MICROSOFT, OTHER = make_signer("vendor"), make_signer("db"), make_signer("other")
REVOKED = b"revoked"
CONFIG = b"# plain\nset timeout=0\nlinux /VMLINUZ console=ttyS0\ninitrd /INITRD\nboot\n"
GRUB_TEXT = b"x\ngrub.debian,5,Debian,grub2,2.14-4,\n"


def image(parts: dict[str, bytes]) -> bytes:
    """Sections by name, as shim is built: long names in a table of strings behind the last section."""
    places = [(2048 * (index + 1), 2048) for index in range(len(parts))]
    data = bytearray(small_pe(sections=places, headers=2048))
    strings, start = bytearray(4), data.index(b".x\0")
    for index, (name, content) in enumerate(parts.items()):
        short = name.encode() if len(name) <= 8 else f"/{len(strings)}".encode()
        if len(name) > 8:
            strings += name.encode() + b"\0"
        at = start + 40 * index
        data[at : at + 12] = short.ljust(8, b"\0") + len(content).to_bytes(4, "little")
        data[places[index][0] : places[index][0] + 2048] = content.ljust(2048, b"\0")
    at = data.index(b"PE\0\0") + 12
    data[at : at + 4] = len(data).to_bytes(4, "little")
    return bytes(data + strings)


def shim(version: bytes = b"16.1", level: bytes = b"sbat,1,2025\n", vendor: bytes = VENDOR.der) -> bytes:
    table = b"".join(n.to_bytes(4, "little") for n in (len(vendor), len(REVOKED), 16, 16 + len(vendor)))
    levels = (0).to_bytes(4, "little") + (8).to_bytes(4, "little") + bytes(4) + level + b"\0sbat,1,2026\n\0"
    parts = {".data.ident": b"UEFI SHIM\n$Version: " + version + b" $\n", ".sbatlevel": levels}
    return sign(MICROSOFT, image=image(parts | {".vendor_cert": table + vendor + REVOKED}))


GRUB = sign(VENDOR, image=image({".sbat": GRUB_TEXT}))
KERNEL = sign(VENDOR, image=kernel())


def files(**changes: bytes | None) -> dict[str, bytes]:
    found: dict[str, bytes | None] = {
        DEFAULT_PATH: shim(), "EFI/BOOT/GRUBX64.EFI": GRUB, "EFI/DEBIAN/GRUB.CFG": CONFIG, "VMLINUZ": KERNEL,
        "INITRD": b"init",
    }  # fmt: skip
    found |= changes
    return {path: data for path, data in found.items() if data is not None}


def events(**changes: bytes | None) -> list[MeasuredEvent]:
    given = files(**changes)
    volume = fat16_of(given)
    disk = gpt_disk(volume)
    table = GrubDisk(disk, parse_gpt(disk))
    return shim_events(given[DEFAULT_PATH], FatVolume(memoryview(volume)), table, secure=True)


def sha(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


def test_what_shim_grub_and_the_kernel_measure_is_known_in_order() -> None:
    found = events()
    assert [event.name for event in found] == [
        "ipl:MokList", "ipl:MokListX", "authority:SbatLevel", "ipl:MokListTrusted", "authority:MokListRT",
        "application", "ipl:file", "ipl:file", "ipl:grub_cmd", "ipl:grub_cmd", "ipl:file", "application",
        "ipl:kernel_cmdline", "ipl:grub_cmd", "ipl:file", "ipl:grub_cmd", "load-options", "initrd",
    ]  # fmt: skip
    lists = X509 + b"".join(n.to_bytes(4, "little") for n in (44 + len(VENDOR.der), 0, 16 + len(VENDOR.der)))
    authority = variable_data(SHIM_LOCK, "MokListRT", SHIM_LOCK + VENDOR.der)
    level = variable_data(SHIM_LOCK, "SbatLevel", b"sbat,1,2025\n")
    assert [event.digest for event in found[:5]] == [
        sha(lists + SHIM_LOCK + VENDOR.der), sha(REVOKED), sha(level), sha(b"\1"), sha(authority),
    ]  # fmt: skip
    assert found[8].digest == sha(b"set timeout=0")
    assert found[12].digest == sha(b"/VMLINUZ console=ttyS0")
    assert found[16].digest == sha("BOOT_IMAGE=/VMLINUZ console=ttyS0\0".encode("utf-16-le"))
    assert found[17].digest == found[14].digest == sha(b"init")


@pytest.mark.parametrize(("change", "why"), [
    ({DEFAULT_PATH: shim(b"15.8")}, "not shim 16.1"),
    ({DEFAULT_PATH: shim(level=b"other")}, "revocation level"),
    ({DEFAULT_PATH: shim(vendor=X509 + bytes(40))}, "one certificate"),
    ({"EFI/BOOT/FBX64.EFI": b"x"}, "FBX64.EFI beside shim"),
    ({"EFI/BOOT/GRUBX64.EFI": sign(VENDOR)}, "not Debian's GRUB"),
    ({"EFI/BOOT/GRUBX64.EFI": None}, "no EFI/BOOT/GRUBX64.EFI"),
    ({"EFI/DEBIAN/GRUB.CFG": None}, "no EFI/debian/grub.cfg"),
    ({"INITRD": b"odd"}, "pads /INITRD, of 3 bytes"),
    ({"VMLINUZ": None}, "/VMLINUZ is not on"),
])  # fmt: skip
def test_a_loader_that_is_not_known_is_named(change: dict[str, bytes | None], why: str) -> None:
    with pytest.raises(LoaderUnknown, match=re.escape(why)):
        events(**change)


@pytest.mark.parametrize("name", ["EFI/BOOT/GRUBX64.EFI", "VMLINUZ"])
def test_an_image_shim_would_refuse_is_refused(name: str) -> None:
    image_ = image({".sbat": GRUB_TEXT}) if name != "VMLINUZ" else kernel()
    with pytest.raises(LaunchInvalid, match="does not vouch"):
        events(**{name: sign(OTHER, image=image_)})


def test_with_secure_boot_on_a_disk_is_predicted_whole() -> None:
    disk = DiskBoot(gpt_disk(fat16_of(files())), exit_failures=0)
    machine = MACHINE._replace(boot_options=NEW.boot_options)
    db = (IMAGE_SECURITY, "db", database(MICROSOFT.der), 0x3F)
    on = predict_td(firmware(PK, db), machine, disk, layout=NEW, rtmr3_stays_zero=True)
    assert on.unpredicted == ()
    first = next(event for event in on.events if event.name.startswith("authority"))
    assert first.digest == sha(variable_data(IMAGE_SECURITY, "db", b"o" * 16 + MICROSOFT.der))


def test_with_secure_boot_off_nothing_vouches_and_the_kernel_is_measured_when_it_starts() -> None:
    unsigned = files(**{"VMLINUZ": kernel(), "EFI/BOOT/GRUBX64.EFI": image({".sbat": GRUB_TEXT})})
    disk = DiskBoot(gpt_disk(fat16_of(unsigned)), exit_failures=0)
    machine, plain = MACHINE._replace(boot_options=NEW.boot_options), firmware((EFI_GLOBAL, "x", b"", 0x3F))
    off = predict_td(plain, machine, disk, layout=NEW, rtmr3_stays_zero=True)
    assert off.unpredicted == ()
    level = [event for event in off.events if event.name.startswith("authority")]
    assert [event.digest for event in level] == [sha(variable_data(SHIM_LOCK, "SbatLevel", b"sbat,1,2021030218\n"))]
    names = [event.name for event in off.events]
    assert names[names.index("ipl:kernel_cmdline") - 1] == "ipl:file"
    assert names[-5:-2] == ["application", "load-options", "initrd"]


def test_with_secure_boot_on_the_kernel_in_a_unified_kernel_image_is_named() -> None:
    disk = DiskBoot(gpt_disk(fat16_of({DEFAULT_PATH: sign(MICROSOFT, image=uki())})), exit_failures=0)
    db = (IMAGE_SECURITY, "db", database(MICROSOFT.der), 0x3F)
    machine = MACHINE._replace(boot_options=NEW.boot_options)
    found = predict_td(firmware(PK, db), machine, disk, flavour="emulated", layout=NEW, rtmr3_stays_zero=True)
    assert [text[:5] for text in found.unpredicted] == ["RTMR0"]
