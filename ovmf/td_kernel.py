"""A kernel given to QEMU with ``-kernel``: what of it, its command line and its initrd is measured.

OVMF loads the kernel as a PE image and builds its load options; Linux's EFI stub then measures the load options
(UTF-16LE with the final NUL) and the initrd. Sources: edk2 ``OvmfPkg/Library/GenericQemuLoadImageLib``; Linux
``Documentation/arch/x86/boot.rst``, ``drivers/firmware/efi/libstub``; QEMU ``hw/i386/x86-common.c``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ovmf.errors import LaunchInvalid, PeMalformed
from ovmf.td_layout import INITRD_FIRST
from policy.wire import ByteReader

_MAX_CMDLINE = 1 << 16
_ACPI_DATA = 0x28000
_INITRD_MAX_OLD = 0x37FFFFFF
_CAN_BE_ABOVE_4G = 1 << 1

FIRST_WITH_CC_MEASUREMENT = (6, 9)
"""The first Linux whose EFI stub measures through the confidential-computing protocol, which is all a TD has."""


class DirectKernel(NamedTuple):
    """Boot files. ``initrd_sha384``: 48 bytes, ``None`` without an initrd; ``cmdline`` without a NUL; ``shim``: the
    image given with QEMU's ``-shim``."""

    kernel: bytes
    initrd_sha384: bytes | None
    cmdline: bytes
    shim: bytes | None = None


def load_options(cmdline: bytes, *, initrd: bool, order: str, shim: bool = False) -> bytes:
    """The load options as measured: UTF-16LE with NUL, every byte widened to 16 bits; empty when there is nothing.

    ``order`` is a word of `ovmf.td_layout`. Raises :class:`LaunchInvalid` for a NUL or an overlong command line.
    """
    if b"\0" in cmdline or len(cmdline) >= _MAX_CMDLINE:
        raise LaunchInvalid(f"cmdline: {len(cmdline)} bytes: want no NUL and less than {_MAX_CMDLINE}")
    text = cmdline
    if initrd:
        text = b"initrd=initrd " + cmdline if order == INITRD_FIRST else cmdline + b" initrd=initrd"
    if shim:
        text = b"kernel " + text
    return b"".join(bytes((byte, 0)) for byte in text) + b"\0\0" if text else b""


def kernel_release(kernel: bytes) -> tuple[int, int] | None:
    """(major, minor) of a bzImage from the text its setup header points to; ``None`` when it has none."""
    if len(kernel) < 0x264 or kernel[0x202:0x206] != b"HdrS":
        return None
    start = int.from_bytes(kernel[0x20E:0x210], "little") + 0x200
    match = re.match(rb"([0-9]{1,3})\.([0-9]{1,3})", kernel[start : start + 16])
    return None if match is None else (int(match[1]), int(match[2]))


def patched_by_old_qemu(kernel: bytes, *, ram_below_4g: int, initrd_size: int | None) -> bytes:
    """The kernel as QEMU before 10.1 hands it to the firmware, with fields of the setup header filled in.

    Loader type, heap end, command line pointer, and place and size of the initrd, which depend on memory. Raises
    :class:`PeMalformed` for a file without a setup header of protocol 2.02 or later.
    """
    reader = ByteReader(kernel[:0x264], "kernel", error=PeMalformed)
    reader.skip(0x202, "boot sector")
    if reader.take(4, "magic") != b"HdrS" or len(kernel) < 0x264:
        raise reader.fail("setup header at 0x202: want HdrS")
    protocol = reader.u16("boot protocol")
    if protocol < 0x202:
        raise reader.fail(f"boot protocol: got 0x{protocol:X}, want at least 0x202")
    header = bytearray(kernel[:0x264])
    header[0x210] = 0xB0  # QEMU's loader number
    header[0x211] |= 0x80  # the heap may be used
    header[0x224:0x226] = (0x20000 - 0x10000 - 0x200).to_bytes(2, "little")
    header[0x228:0x22C] = (0x20000).to_bytes(4, "little")
    if initrd_size is not None:
        top = min(_initrd_max(header, protocol), ram_below_4g - _ACPI_DATA - 1)
        if initrd_size >= top:
            raise LaunchInvalid(f"initrd: {initrd_size} bytes do not fit below 0x{top:X}")
        header[0x218:0x21C] = ((top - initrd_size) & ~4095).to_bytes(4, "little")
        header[0x21C:0x220] = initrd_size.to_bytes(4, "little")
    return bytes(header) + kernel[0x264:]


def _initrd_max(header: bytearray, protocol: int) -> int:
    if protocol >= 0x20C and int.from_bytes(header[0x236:0x238], "little") & _CAN_BE_ABOVE_4G:
        return 0xFFFFFFFF
    return int.from_bytes(header[0x22C:0x230], "little") if protocol >= 0x203 else _INITRD_MAX_OLD
