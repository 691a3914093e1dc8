"""The TD HOB: the list of memory that QEMU hands to the firmware of a TD, and that the firmware measures first.

A PHIT HOB of 56 bytes {type u16 = 1, length u16, zero u32, version u32 = 9, boot mode u32, four memory limits u64 = 0,
end of list u64}, then one resource HOB of 48 bytes per range {type u16 = 3, length u16, zero u32, owner GUID = 0, kind
u32, attributes u32 = 7, start u64, length u64}, ascending: memory of TEMP_MEM and TD_HOB sections is accepted (kind 0),
all other RAM is not (kind 7). The end-of-list HOB that follows is not measured, but the pointer in PHIT counts it.
Sources: UEFI PI specification 1.8, volume 3, section 5; QEMU ``target/i386/kvm/tdx.c`` and ``hw/i386/tdvf-hob.c``.
"""

from __future__ import annotations

from struct import Struct

from ovmf.errors import LaunchInvalid
from ovmf.td_metadata import TD_HOB, TEMP_MEM, TdSection

_PHIT = Struct("<HHIII4QQ").pack
_RESOURCE = Struct("<HHI16xIIQQ").pack
_ACCEPTED, _UNACCEPTED = 0, 7
_PRESENT_INITIALIZED_TESTED = 7
_END = 8

_FOUR_GIB = 1 << 32
_SPLIT_FROM = 0xB0000000
_LOW_WHEN_SPLIT = 0x80000000


def ram_below_4g(memory_bytes: int) -> int:
    """Bytes of RAM below 4 GiB on QEMU's q35 machine: 2 GiB once there are 2816 MiB, else all of it."""
    return _LOW_WHEN_SPLIT if memory_bytes >= _SPLIT_FROM else memory_bytes


def td_hob(sections: tuple[TdSection, ...], memory_bytes: int) -> bytes:
    """The measured bytes, for checked sections and ``memory_bytes`` of guest memory.

    Raises :class:`LaunchInvalid` when memory is not whole pages or does not hold the sections, or the image has no
    place for a HOB list.
    """
    base = next((section.address for section in sections if section.type == TD_HOB), None)
    if base is None:
        raise LaunchInvalid("firmware: TDVF descriptor: no section TD_HOB, so QEMU cannot start a TD with it")
    if memory_bytes <= 0 or memory_bytes % 4096:
        raise LaunchInvalid(f"memory: got {memory_bytes} bytes, want whole 4 KiB pages")
    ranges = _ranges(sections, memory_bytes)
    end = base + 56 + 48 * len(ranges) + _END
    phit = _PHIT(1, 56, 0, 9, 0, 0, 0, 0, 0, end)
    return phit + b"".join(
        _RESOURCE(3, 48, 0, kind, _PRESENT_INITIALIZED_TESTED, start, size) for start, size, kind in ranges
    )


def _ranges(sections: tuple[TdSection, ...], memory_bytes: int) -> list[tuple[int, int, int]]:
    low = ram_below_4g(memory_bytes)
    found: list[tuple[int, int, int]] = []
    reached = 0
    accepted = sorted((s.address, s.size) for s in sections if s.type in (TEMP_MEM, TD_HOB))
    for start, size in accepted:
        if start + size > low:
            raise LaunchInvalid(f"memory: {memory_bytes} bytes do not hold the firmware's section at 0x{start:X}")
        if start > reached:
            found.append((reached, start - reached, _UNACCEPTED))
        found.append((start, size, _ACCEPTED))
        reached = start + size
    if reached < low:
        found.append((reached, low - reached, _UNACCEPTED))
    if memory_bytes > low:
        found.append((_FOUR_GIB, memory_bytes - low, _UNACCEPTED))
    return found
