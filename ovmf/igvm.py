"""IGVM files: a list of commands that build a guest's initial memory, for several platforms at once.

Fixed header {``IGVM``, version u32, offset and size of the variable headers u32, file size u32, CRC-32 of both
headers}, version 2 adds {architecture u32, page size u32}; then variable headers {type u32, length u32, content,
zeros up to a multiple of 8}, platforms before initialisation before directives; then data the headers point at.
Little-endian. Source: the IGVM specification (``igvm_defs``). Only what enters an SEV-SNP launch digest is kept.
"""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

from ovmf.errors import IgvmMalformed, IgvmUnsupported
from ovmf.igvm_id_block import ID_BLOCK_LENGTH, IgvmIdBlock, read_id_block
from ovmf.snp_launch import MAX_VCPUS
from policy.wire import ByteReader

MAX_IGVM = 64 << 20
"""Largest file accepted, in bytes."""
MAX_PAGES = 1 << 16
"""Most 4 KiB pages a file may describe (256 MiB): two-megabyte pages without data cost a file next to nothing."""
MAX_HEADERS = 1 << 18
"""Most variable headers, so that no file keeps its reader busy for long; 64 bytes of each on average."""

PAGE = 4096
LARGE_PAGE = 2 << 20
VMSA_USED = 0x670
"""Bytes of a VMSA page that have a meaning; the rest must be zero."""

NORMAL, SECRETS, CPUID_DATA, CPUID_XF = 0, 1, 2, 3
SEV_SNP = 2
_PLATFORMS = {0: "native", 1: "VSM", 2: "SEV-SNP", 3: "TDX", 4: "SEV", 5: "SEV-ES"}

_PLATFORM, _POLICY, _AREA, _PAGE_DATA, _INSERT, _CONTEXT, _ID_BLOCK = 0x1, 0x101, 0x301, 0x302, 0x303, 0x304, 0x30B
_LENGTHS = {
    _PLATFORM: 16,
    _POLICY: 16,
    _AREA: 16,
    _PAGE_DATA: 24,
    _INSERT: 16,
    _CONTEXT: 20,
    _ID_BLOCK: ID_BLOCK_LENGTH,
}
# Known and without influence on the digest: relocation is refused below, parameters are filled in unmeasured areas.
_WITHOUT_EFFECT = {0x305: 24, 0x30D: 16, 0x311: 864} | dict.fromkeys(
    (0x307, 0x308, 0x309, 0x30A, 0x30C, 0x30E, 0x30F, 0x310, 0x312, 0x313), 8
)
_RELOCATION = (0x102, 0x103)
_MAY_BE_IGNORED = 1 << 31


class Page(NamedTuple):
    """PAGE_DATA: ``size`` is 4 KiB or 2 MiB; ``data`` has that many bytes, or none for a page of zeros."""

    gpa: int
    size: int
    kind: int
    unmeasured: bool
    data: memoryview


class Parameters(NamedTuple):
    """PARAMETER_INSERT: memory the loader fills; ``size`` is that of the area, in bytes."""

    gpa: int
    size: int


class Context(NamedTuple):
    """SNP_VP_CONTEXT: a VMSA page (4096 bytes) for vCPU ``vcpu``."""

    gpa: int
    vcpu: int
    vmsa: memoryview


Directive = Page | Parameters | Context


class IgvmFile(NamedTuple):
    """The SEV-SNP part of a file: ``directives`` in file order, ``policy`` the 64-bit guest policy if the file sets
    one."""

    directives: tuple[Directive, ...]
    policy: int | None
    id_block: IgvmIdBlock | None


def parse_igvm(data: bytes) -> IgvmFile:
    """Read a whole file, or raise :class:`IgvmMalformed` (:class:`IgvmUnsupported` for what is valid but not for
    us)."""
    if len(data) > MAX_IGVM:
        raise IgvmMalformed(f"igvm: got more than {MAX_IGVM >> 20} MiB")
    headers, start = _variable_headers(data)
    parser = _Parser(data, start + len(headers))
    reader = ByteReader(headers, "igvm", error=IgvmMalformed, base=start)
    count = 0
    while reader.remaining:
        at, count = start + reader.offset, count + 1
        if count > MAX_HEADERS:
            raise IgvmMalformed(f"igvm: got more than {MAX_HEADERS} headers")
        kind, length = reader.u32("header type"), reader.u32("header length")
        content = reader.take(length, f"header 0x{kind:X}")
        reader.zero(-length % 8, "padding")
        parser.header(kind, content, at)
    return parser.finish()


def _variable_headers(data: bytes) -> tuple[bytes, int]:
    """The variable headers and where they start, with sizes and checksum verified."""
    reader = ByteReader(data[:32], "igvm", error=IgvmMalformed)
    if reader.take(4, "magic") != b"IGVM":
        raise reader.fail("magic at 0x0: want IGVM")
    version = reader.u32("version")
    if version not in (1, 2):
        raise IgvmUnsupported(f"igvm: version got {version}, want 1 or 2")
    offset, size, total, checksum = (reader.u32(name) for name in ("offset", "size", "file size", "checksum"))
    fixed = 24
    if version == 2:
        fixed = 32
        architecture, page_size = reader.u32("architecture"), reader.u32("page size")
        if architecture != 0 or page_size != PAGE:
            raise IgvmUnsupported(f"igvm: architecture {architecture}, page size {page_size}: want x86-64 and 4096")
    if size > 64 * MAX_HEADERS:
        raise reader.fail(f"headers: got {size} bytes, want at most {64 * MAX_HEADERS}")
    if offset != fixed or size % 8 or offset + size > total or total != len(data):
        raise reader.fail(
            f"headers at 0x{offset:X}, {size} bytes, file of {total}: want them at 0x{fixed:X}, file of {len(data)}"
        )
    headers = data[offset : offset + size]
    if crc32(headers, crc32(data[:20] + bytes(4) + data[24:fixed])) != checksum:
        raise reader.fail(f"checksum at 0x14: got 0x{checksum:X}, which the headers do not have")
    return headers, offset


class _Parser:
    """Collects the SEV-SNP part; headers come in file order."""

    def __init__(self, data: bytes, data_start: int) -> None:
        self._data = memoryview(data)
        self._data_start = data_start
        self._platforms: dict[int, int] = {}
        self._mask = 0
        self._stage = 0
        self._areas: dict[int, int] = {}
        self._vcpus: set[int] = set()
        self._pages = 0
        self._directives: list[Directive] = []
        self._policy: int | None = None
        self._id_block: IgvmIdBlock | None = None

    def header(self, kind: int, content: bytes, at: int) -> None:
        """One variable header; ``at`` is its offset in the file."""
        if kind & _MAY_BE_IGNORED:
            return
        self._order(kind, at)
        want = _LENGTHS.get(kind, _WITHOUT_EFFECT.get(kind))
        if kind in _RELOCATION:
            raise IgvmUnsupported(f"igvm: header at 0x{at:X}: relocatable, so its digest depends on the loader")
        if want is None:
            raise IgvmUnsupported(f"igvm: header at 0x{at:X}: type 0x{kind:X} is not known and may not be ignored")
        if len(content) != want:
            raise IgvmMalformed(f"igvm: header 0x{kind:X} at 0x{at:X}: length got {len(content)}, want {want}")
        reader = ByteReader(content, f"igvm: header 0x{kind:X}", error=IgvmMalformed, base=at + 8)
        handler = {
            _PLATFORM: self._platform, _POLICY: self._guest_policy, _AREA: self._area, _PAGE_DATA: self._page,
            _INSERT: self._insert, _CONTEXT: self._context, _ID_BLOCK: self._identity,
        }.get(kind)  # fmt: skip
        if handler is not None:
            handler(reader)

    def finish(self) -> IgvmFile:
        """The parsed file, once every header is read."""
        if not self._mask:
            found = ", ".join(_PLATFORMS.get(kind, str(kind)) for kind in self._platforms.values()) or "none"
            raise IgvmUnsupported(f"igvm: platforms: got {found}, want SEV-SNP among them")
        return IgvmFile(tuple(self._directives), self._policy, self._id_block)

    def _order(self, kind: int, at: int) -> None:
        stage = 0 if kind <= 0x100 else 1 if kind <= 0x200 else 2
        if stage < self._stage:
            raise IgvmMalformed(f"igvm: header 0x{kind:X} at 0x{at:X}: comes after headers of a later section")
        self._stage = stage

    def _platform(self, reader: ByteReader) -> None:
        mask = reader.u32("compatibility mask")
        highest_vtl, kind, version = reader.u8("highest VTL"), reader.u8("platform"), reader.u16("platform version")
        if mask.bit_count() != 1 or mask in self._platforms or kind in self._platforms.values():
            raise reader.fail(f"compatibility mask: got 0x{mask:X}, want one bit, once per platform")
        self._platforms[mask] = kind
        if kind == SEV_SNP:
            if version != 1 or highest_vtl > 2:
                raise IgvmUnsupported(f"igvm: SEV-SNP platform version {version}, highest VTL {highest_vtl}")
            self._mask = mask

    def _ours(self, mask: int, reader: ByteReader) -> bool:
        known = 0
        for platform in self._platforms:
            known |= platform
        if mask == 0 or mask & ~known:
            raise reader.fail(f"compatibility mask: got 0x{mask:X}, want platforms of this file (0x{known:X})")
        return bool(mask & self._mask)

    def _guest_policy(self, reader: ByteReader) -> None:
        policy, mask = reader.u64("policy"), reader.u32("compatibility mask")
        reader.zero(4, "reserved")
        if self._ours(mask, reader):
            if self._policy is not None:
                raise reader.fail("policy: a second one for SEV-SNP")
            self._policy = policy

    def _area(self, reader: ByteReader) -> None:
        size, index, offset = reader.u64("size"), reader.u32("index"), reader.u32("file offset")
        if index in self._areas or size % PAGE or not 0 < size <= MAX_PAGES * PAGE:
            raise reader.fail(f"parameter area {index}: {size} bytes: want whole pages, and each index once")
        if offset:
            self._slice(reader, offset, size)
        self._areas[index] = size

    def _page(self, reader: ByteReader) -> None:
        gpa, mask = reader.u64("gpa"), reader.u32("compatibility mask")
        offset, flags, kind = reader.u32("file offset"), reader.u32("flags"), reader.u16("data type")
        reader.zero(2, "reserved")
        if flags & ~7 or kind > CPUID_XF:
            raise reader.fail(f"page at 0x{gpa:X}: flags 0x{flags:X}, type {kind}: want flags 0..7, type 0..3")
        size = LARGE_PAGE if flags & 1 else PAGE
        self._place(reader, gpa, size, size)
        data = self._slice(reader, offset, size) if offset else memoryview(b"")
        if self._ours(mask, reader) and not flags & 4:  # shared pages are the host's and not measured
            self._count(size)
            self._directives.append(Page(gpa, size, kind, bool(flags & 2), data))

    def _insert(self, reader: ByteReader) -> None:
        gpa, mask, index = reader.u64("gpa"), reader.u32("compatibility mask"), reader.u32("index")
        size = self._areas.get(index)
        if size is None:
            raise reader.fail(f"parameter area {index}: not declared before")
        self._place(reader, gpa, size)
        if self._ours(mask, reader):
            del self._areas[index]
            self._count(size)
            self._directives.append(Parameters(gpa, size))

    def _context(self, reader: ByteReader) -> None:
        gpa, mask, offset = reader.u64("gpa"), reader.u32("compatibility mask"), reader.u32("file offset")
        index = reader.u16("vCPU index")
        reader.zero(2, "reserved")
        if not self._ours(mask, reader):
            return
        self._place(reader, gpa, PAGE)
        vmsa = self._slice(reader, offset, PAGE)
        if any(vmsa[VMSA_USED:]):
            raise reader.fail(f"VMSA of vCPU {index}: bytes from 0x{VMSA_USED:X} on must be zero")
        if index in self._vcpus or index >= MAX_VCPUS:
            raise reader.fail(f"VMSA of vCPU {index}: want vCPUs below {MAX_VCPUS}, each once")
        self._vcpus.add(index)
        self._count(PAGE)
        self._directives.append(Context(gpa, index, vmsa))

    def _identity(self, reader: ByteReader) -> None:
        block, mask = read_id_block(reader)
        if self._ours(mask, reader):
            if self._id_block is not None:
                raise reader.fail("ID block: a second one for SEV-SNP")
            self._id_block = block

    def _place(self, reader: ByteReader, gpa: int, size: int, unit: int = PAGE) -> None:
        if gpa % unit or gpa + size > 1 << 52:
            raise reader.fail(f"gpa: got 0x{gpa:X}, want a multiple of 0x{unit:X} below 2^52")

    def _count(self, size: int) -> None:
        self._pages += size // PAGE
        if self._pages > MAX_PAGES:
            raise IgvmMalformed(f"igvm: describes more than {MAX_PAGES * PAGE >> 20} MiB of pages")

    def _slice(self, reader: ByteReader, offset: int, size: int) -> memoryview:
        if offset < self._data_start or offset + size > len(self._data):
            raise reader.fail(f"file offset: 0x{offset:X}, {size} bytes: not within the file's data")
        return self._data[offset : offset + size]
