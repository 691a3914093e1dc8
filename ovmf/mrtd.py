"""MRTD: what the TDX module measures while a TD is built, before its first instruction.

SHA-384 over records of 128 bytes, little-endian: ``MEM.PAGE.ADD`` padded to 16, GPA u64, zeros, for each page added;
``MR.EXTEND`` padded to 16, GPA u64, zeros, and then 256 bytes of contents, for each chunk of a page that is measured.
The VMM chooses the order: *single pass* adds a page and measures it before the next (QEMU 9 and later with Linux 6.16);
*two pass* adds all pages of a section, then measures them (QEMU 8 TDX trees). Source: Intel, *TDX Module Base
Architecture Specification* (348549), "Measurement and Attestation", TDH.MEM.PAGE.ADD and TDH.MR.EXTEND.

SHA-384 has to see half as many bytes again as the image has, so there is little time left for Python: the records of 64
KiB are joined from prepared parts and hashed in one call. Within that, only one byte of the GPA counts up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from struct import Struct

from ovmf.td_metadata import PAGE, TdSection
from policy.fixed import LaunchDigest

_CHUNK = 256
_REGION = 1 << 16
_CHUNKS_A_PAGE = PAGE // _CHUNK
_EXTEND = tuple(b"MR.EXTEND".ljust(17, b"\0") + bytes([index]) for index in range(256))
_ADD = b"MEM.PAGE.ADD".ljust(16, b"\0")
_REST = bytes(104)
_SPLIT = {size: Struct(f"{_CHUNK}s" * (size // _CHUNK)).unpack for size in range(PAGE, _REGION + 1, PAGE)}


def mrtd(firmware: bytes, sections: tuple[TdSection, ...], *, two_pass: bool = False) -> LaunchDigest:
    """MRTD, 48 bytes, of an image with these (checked) sections. Memory, CPUs and devices do not enter."""
    digest = hashlib.sha384()
    view = memoryview(firmware)
    for section in sections:
        if not section.added:
            continue
        if two_pass or not section.extended:
            digest.update(b"".join(map(_add, range(section.address, section.address + section.size, PAGE))))
        if section.extended:
            for gpa, data in _regions(view, section):
                digest.update(b"".join(_extends(gpa, data, add=not two_pass)))
    return LaunchDigest(digest.digest())


def _add(gpa: int) -> bytes:
    return _ADD + gpa.to_bytes(8, "little") + _REST


def _regions(view: memoryview, section: TdSection) -> Iterator[tuple[int, memoryview | bytes]]:
    """(GPA, contents) cut at multiples of 64 KiB; contents past the raw data are zeros."""
    raw = view[section.data_offset : section.data_offset + section.raw_size]
    gpa, end, offset = section.address, section.address + section.size, 0
    while gpa < end:
        size = min(end, (gpa // _REGION + 1) * _REGION) - gpa
        data = raw[offset : offset + size]
        yield gpa, data if len(data) == size else bytes(data).ljust(size, b"\0")
        gpa, offset = gpa + size, offset + size


def _extends(gpa: int, data: memoryview | bytes, *, add: bool) -> list[bytes]:
    """The parts of the records of whole pages within one 64 KiB region; ``add``: each page's own record before them."""
    count = len(data) // _CHUNK
    first = gpa // _CHUNK % 256
    rest = (gpa // _REGION).to_bytes(6, "little") + _REST
    parts = [rest] * (3 * count)
    parts[0::3] = _EXTEND[first : first + count]
    parts[2::3] = _SPLIT[len(data)](data)
    if add:
        for page in range(count // _CHUNKS_A_PAGE):
            at = 3 * _CHUNKS_A_PAGE * page
            parts[at] = _add(gpa + page * PAGE) + parts[at]
    return parts
