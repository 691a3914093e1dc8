"""Whether an image can leave memory for the kernel: real builds, and volumes that say one thing each."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.io.toolchain import ToolchainMissing, find_toolchain
from ovmf.errors import FirmwareMalformed
from ovmf.guid import efi_guid
from ovmf.lazy_accept import Lazy, lazy_accept

SEV = efi_guid("c5a010fe-38a7-4531-8a4a-0500d2fd1649")
MORE = efi_guid("38c74800-5590-4db4-a0f3-675d9b8e8026")
_FFS = efi_guid("8c8ce578-8a3d-4f1c-9935-896185c32dd3")


def volume(image: bytes) -> bytes:
    """A firmware volume of one driver."""
    section = (len(image) + 4).to_bytes(3, "little") + b"\x10" + image
    file = bytes(range(16)) + b"\0\0\x07\0" + (24 + len(section)).to_bytes(3, "little") + b"\0" + section
    file += bytes(-len(file) % 8) + b"\xff" * 64
    head = bytes(16) + _FFS + (72 + len(file)).to_bytes(8, "little") + b"_FVH" + bytes(4) + b"\x48\0" + bytes(22)
    return head + file


@pytest.mark.parametrize(
    ("image", "expected"),
    [(b"code", Lazy(False, False)), (b"xx" + SEV, Lazy(True, False)), (MORE, Lazy(False, True)),
     (SEV + MORE, Lazy(True, True)), (SEV[:15], Lazy(False, False))],
)  # fmt: skip
def test_it_is_read_from_the_protocols_the_drivers_know(image: bytes, expected: Lazy) -> None:
    assert lazy_accept(volume(image)) == expected


def test_a_guid_outside_of_any_driver_tells_nothing() -> None:
    assert lazy_accept(SEV + MORE + bytes(8) + volume(b"code")) == Lazy(False, False)


def test_a_volume_that_contradicts_itself_is_refused() -> None:
    whole = bytearray(volume(SEV))
    whole[72 + 20 : 72 + 23] = b"\xff\xff\x7f"
    with pytest.raises(FirmwareMalformed, match="size"):
        lazy_accept(bytes(whole))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("OVMF.amdsev.fd", Lazy(True, True)), ("OVMF.fd", Lazy(True, True)), ("OVMF.inteltdx.ms.fd", Lazy(False, True))],
)
def test_debians_builds_leave_memory_to_the_kernel_where_they_start(name: str, expected: Lazy) -> None:
    try:
        path = Path(find_toolchain().firmware_dir) / name
    except ToolchainMissing as exc:
        pytest.skip(exc.message)
    if not path.is_file():
        pytest.skip(f"no {name} beside this QEMU")
    assert lazy_accept(path.read_bytes()) == expected
