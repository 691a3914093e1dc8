"""Small IGVM files, every part replaceable: a list of variable headers and the data they point at."""

from __future__ import annotations

from struct import pack
from zlib import crc32

SNP_MASK, TDX_MASK = 1, 2
VMSA_GPA = 0xFFFFFFFFF000


def header(kind: int, content: bytes, length: int | None = None) -> bytes:
    """One variable header, padded; ``length`` overrides the true one."""
    return pack("<II", kind, len(content) if length is None else length) + content + bytes(-len(content) % 8)


def platform(mask: int = SNP_MASK, kind: int = 2, version: int = 1) -> bytes:
    return header(0x1, pack("<IBBHQ", mask, 0, kind, version, 0))


def policy(value: int = 0x30000, mask: int = SNP_MASK) -> bytes:
    return header(0x101, pack("<QII", value, mask, 0))


def page(gpa: int, offset: int = 0, flags: int = 0, kind: int = 0, mask: int = SNP_MASK) -> bytes:
    return header(0x302, pack("<QIIIHH", gpa, mask, offset, flags, kind, 0))


def area(index: int = 0, size: int = 4096) -> bytes:
    return header(0x301, pack("<QII", size, index, 0))


def insert(gpa: int, index: int = 0, mask: int = SNP_MASK) -> bytes:
    return header(0x303, pack("<QII", gpa, mask, index))


def context(offset: int, gpa: int = VMSA_GPA, vcpu: int = 0, mask: int = SNP_MASK) -> bytes:
    return header(0x304, pack("<QIIHH", gpa, mask, offset, vcpu, 0))


def id_block(digest: bytes, auth: bytes | None = None, *, svn: int = 0, mask: int = SNP_MASK) -> bytes:
    """The header made of a digest and the 4096 bytes of an ID authentication (none: empty signatures)."""
    raw = auth or bytes(4096)
    author = raw[4:8] != bytes(4)

    def signature(at: int) -> bytes:
        return raw[at : at + 144]

    def key(at: int) -> bytes:
        return raw[at : at + 4] + bytes(4) + raw[at + 4 : at + 148]

    body = pack("<IBBBB", mask, author, 0, 0, 0) + digest + bytes(32) + pack("<IIII", 1, svn, 1, 1 if author else 0)
    return header(0x30B, body + signature(0x40) + key(0x240) + signature(0x680) + key(0x880))


def image(headers: list[bytes], data: bytes = b"", *, version: int = 1, checksum: int | None = None) -> bytes:
    """A file; ``checksum`` overrides the true one."""
    variable = b"".join(headers)
    extra = pack("<II", 0, 4096) if version == 2 else b""
    start = 24 + len(extra)
    front = b"IGVM" + pack("<IIII", version, start, len(variable), start + len(variable) + len(data))
    crc = crc32(front + bytes(4) + extra + variable) if checksum is None else checksum
    return front + pack("<I", crc) + extra + variable + data


def vmsa(cr0: int = 0x31) -> bytes:
    """A VMSA page with a little in it."""
    raw = bytearray(4096)
    raw[0x158:0x160] = cr0.to_bytes(8, "little")
    raw[0x3B0] = 1
    return bytes(raw)


def typical(*, cr0: int = 0x31, more: list[bytes] | None = None, native: bool = True) -> bytes:
    """What an SVSM's file looks like: pages of every kind, parameters, one VMSA, and pages for another platform."""
    front = [platform(), platform(TDX_MASK, 3), policy()] if native else [platform(), policy()]
    count = len(b"".join(front)) + len(b"".join(more or [])) + 9 * 32 + 2 * 24 + 32
    data_at = 24 + count
    body = [
        page(0x1000, data_at),
        page(0x2000),
        page(0x3000, 0, 2),
        page(0x4000, 0, 0, 1),
        page(0x5000, 0, 0, 2),
        page(0x6000, 0, 0, 3),
        page(0x7000, data_at, 4),
        page(0x8000, data_at, mask=TDX_MASK if native else SNP_MASK),
        page(0x200000, 0, 1),
        area(0, 0x2000),
        insert(0x10000),
    ]
    headers = [*front, *body, *(more or []), context(data_at + 4096)]
    assert len(b"".join(headers)) == count
    return image(headers, b"\x5a" * 4096 + vmsa(cr0))
