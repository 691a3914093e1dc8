"""Just enough ELF to follow dependencies: the libraries a binary needs and the description inside a kernel module.

Source: System V ABI, chapters 4 (section header table, string table) and 5 (dynamic section); Linux
include/linux/module.h for ``.modinfo`` (NUL-separated ``key=value``). 64-bit little-endian only, which is all of amd64.
"""

from __future__ import annotations

from struct import Struct, iter_unpack

from launcher.image.errors import PackageMalformed
from policy.wire import ByteReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_SECTION = Struct("<IIQQQQIIQQ")
_DT_NULL: Final = 0
_DT_NEEDED: Final = 1
_SHT_NOBITS: Final = 8


def is_elf(data: bytes) -> bool:
    """Whether ``data`` starts like a 64-bit little-endian ELF file."""
    return data[:6] == b"\x7fELF\x02\x01"


def needed_libraries(data: bytes, what: str) -> tuple[str, ...]:
    """The DT_NEEDED names in their order; empty for a static binary. Raises PackageMalformed."""
    sections = _sections(data, what)
    dynamic, strings = sections.get(".dynamic", b""), sections.get(".dynstr", b"")
    names: list[str] = []
    for tag, value in iter_unpack("<qQ", dynamic[: len(dynamic) // 16 * 16]):
        if tag == _DT_NULL:
            break
        if tag == _DT_NEEDED:
            names.append(_text(strings, value, what))
    return tuple(names)


def module_info(data: bytes, what: str) -> dict[str, tuple[str, ...]]:
    """The ``.modinfo`` of a kernel module: every value of each key, in order. Raises PackageMalformed."""
    info: dict[str, tuple[str, ...]] = {}
    for item in _sections(data, what).get(".modinfo", b"").split(b"\0"):
        key, equals, value = item.decode("utf-8", "replace").partition("=")
        if equals:
            info[key] = (*info.get(key, ()), value)
    return info


def _sections(data: bytes, what: str) -> dict[str, bytes]:
    """Section name -> content (the last of a name wins; empty for NOBITS)."""
    if not is_elf(data):
        raise PackageMalformed(f"{what}: ELF magic at 0x0 must be 7f454c460201, got {data[:6].hex()}")
    head = ByteReader(data[:64], what, error=PackageMalformed)
    head.skip(0x28, "identification, entry and program headers")
    table = head.u64("e_shoff")
    head.skip(10, "flags and program header sizes")
    entry_size, count, names_index = head.u16("e_shentsize"), head.u16("e_shnum"), head.u16("e_shstrndx")
    if entry_size != _SECTION.size:
        raise PackageMalformed(f"{what}: e_shentsize at 0x3A must be {_SECTION.size}, got {entry_size}")
    headers = [_SECTION.unpack(_slice(data, table + i * entry_size, entry_size, what)) for i in range(count)]
    if names_index >= count:
        raise PackageMalformed(f"{what}: e_shstrndx at 0x3E must be below {count}, got {names_index}")
    names = _slice(data, headers[names_index][4], headers[names_index][5], what)
    found: dict[str, bytes] = {}
    for name, kind, _flags, _address, offset, size, *_rest in headers:
        found[_text(names, name, what)] = b"" if kind == _SHT_NOBITS else _slice(data, offset, size, what)
    return found


def _slice(data: bytes, offset: int, size: int, what: str) -> bytes:
    if offset + size > len(data):
        raise PackageMalformed(f"{what}: 0x{size:X} bytes at 0x{offset:X} end after the file's 0x{len(data):X}")
    return data[offset : offset + size]


def _text(strings: bytes, offset: int, what: str) -> str:
    end = strings.find(b"\0", offset)
    if offset >= len(strings) or end < 0:
        raise PackageMalformed(
            f"{what}: string at 0x{offset:X} of a string table of 0x{len(strings):X} bytes has no end"
        )
    return strings[offset:end].decode("utf-8", "replace")
