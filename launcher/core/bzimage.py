"""The kernel inside a bzImage: where it lies, how it is packed, what starts it; and where an initrd's archives end.

Sources: Linux ``Documentation/arch/x86/boot.rst`` (``setup_sects`` at 0x1F1, ``payload_offset`` and ``payload_length``
at 0x248 and 0x24C since protocol 2.08; the payload's last four bytes are its size unpacked, little-endian);
``xen/interface/elfnote.h`` XEN_ELFNOTE_PHYS32_ENTRY (18), the entry point of a PVH kernel.
"""

from __future__ import annotations

from policy.errors import MalformedInput
from policy.named import NamedTuple
from policy.wire import ByteReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_MAGICS: Final = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"\x1f\x8b": "gzip",
    b"\x5d\0\0": "lzma",
    b"BZh": "bzip2",
    b"\x7fELF": "none",
}
_HEADER_END: Final = 0x250
_NOTES: Final = 4
_PHYS32_ENTRY: Final = 18
MAX_KERNEL: Final = 512 << 20
"""Bytes unpacked; Debian's are 60 MB."""


class KernelUnusable(MalformedInput):
    """A kernel file that is damaged, or cannot be started without a boot loader."""

    code = "kernel.unusable"


class Payload(NamedTuple):
    """``start`` and ``end`` in the file; ``size`` unpacked; ``compression``: zstd, xz, gzip, lzma, bzip2 or none."""

    start: int
    end: int
    size: int
    compression: str


def payload(data: bytes, what: str) -> Payload:
    """Find it. Raises :class:`KernelUnusable`."""
    header = ByteReader(data[:_HEADER_END], what, error=KernelUnusable)
    header.skip(0x1F1, "boot sector")
    sectors = header.u8("setup_sects") or 4
    header.skip(0x202 - 0x1F2, "boot sector")
    if header.take(4, "boot header") != b"HdrS":
        raise header.fail("no Linux boot header (HdrS at 0x202)")
    version = header.u16("boot protocol")
    if version < 0x208:
        raise header.fail(f"boot protocol {version >> 8}.{version & 255:02d}, want 2.08 or newer")
    header.skip(0x248 - 0x208, "boot header")
    start = (sectors + 1) * 512 + header.u32("payload_offset")
    end = start + header.u32("payload_length") - 4
    if end - start < 4 or end + 4 > len(data):
        raise header.fail(f"its payload lies at {start:#x}..{end + 4:#x}, the file ends at {len(data):#x}")
    size = int.from_bytes(data[end : end + 4], "little")
    if not 0 < size <= MAX_KERNEL:
        raise header.fail(f"{size} bytes unpacked, want 1 to {MAX_KERNEL}")
    return Payload(start, end, size, compression(data[start : start + 6], what))


def compression(begin: bytes, what: str) -> str:
    """The name of the format that begins so (6 bytes), ``none`` for an ELF file."""
    for magic, name in _MAGICS.items():
        if begin.startswith(magic):
            return name
    raise KernelUnusable(f"{what}: payload begins {begin[:4].hex()}, no compression known here")


def check_pvh(elf: bytes, what: str) -> None:
    """Whether QEMU can enter this vmlinux itself. Raises :class:`KernelUnusable`."""
    header = ByteReader(elf[:64], what, error=KernelUnusable)
    if header.take(6, "magic") != b"\x7fELF\x02\x01":
        raise header.fail("unpacked, it is no 64-bit little-endian ELF file")
    header.skip(26, "ELF header")
    table = header.u64("e_phoff")
    header.skip(16, "ELF header")
    count = header.u16("e_phnum")
    segments = ByteReader(elf[table : table + 56 * count], what, error=KernelUnusable, base=table)
    if not any(_PHYS32_ENTRY in _segment_notes(segments, elf) for _ in range(count)):
        raise header.fail("built without CONFIG_PVH, so only a boot loader can start it")


def _segment_notes(segments: ByteReader, elf: bytes) -> list[int]:
    """Types of Xen's notes in the next segment, if it is one of notes. ELF-64, chapter 5, "Note Section"."""
    kind = segments.u32("p_type")
    segments.skip(4, "p_flags")
    offset = segments.u64("p_offset")
    segments.skip(16, "addresses")
    length = segments.u64("p_filesz")
    segments.skip(16, "p_memsz")
    if kind != _NOTES:
        return []
    notes = ByteReader(elf[offset : offset + min(length, 1 << 16)], segments.what, error=KernelUnusable, base=offset)
    found = []
    while notes.remaining >= 12:
        name_size, size, note = notes.u32("n_namesz"), notes.u32("n_descsz"), notes.u32("n_type")
        owner = notes.take(name_size + 3 & ~3, "note's owner")
        notes.skip(size + 3 & ~3, "note")
        if owner[:4] == b"Xen\0":
            found.append(note)
    return found


def plain_end(data: bytes, start: int, what: str) -> int:
    """Where the unpacked cpio archive (newc) that begins at ``start`` ends: behind its entry ``TRAILER!!!``."""
    at = start
    while True:
        entry = ByteReader(data[at : at + 110 + 4096], what, error=KernelUnusable, base=at)
        if entry.take(6, "magic") not in (b"070701", b"070702"):
            raise entry.fail("no entry of a cpio archive (newc)")
        fields = entry.take(104, "cpio header")
        try:
            size, name_size = int(fields[48:56], 16), int(fields[88:96], 16)
        except ValueError:
            raise entry.fail("a cpio header with a size that is no number") from None
        name = entry.take(min(name_size, 4096), "cpio name")
        at = _aligned(_aligned(at + 110 + name_size) + size)
        if at > len(data) + 3:
            raise entry.fail("its last entry is cut short")
        if name == b"TRAILER!!!\0":
            return min(at, len(data))


def _aligned(offset: int) -> int:
    return offset + 3 & ~3
