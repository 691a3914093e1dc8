"""LUKS2 header: one profile is opened, everything else is refused before a key comes near it.

The header lies on a disk the host controls and carries no signature. A host that may choose it can name a null cipher
(the guest then writes plaintext), add a keyslot of its own, or pretend an interrupted re-encryption that decrypts the
disk (CVE-2025-59054, CVE-2025-58356, and the re-encryption recovery flaw of 2022). So the agent copies the header
into memory, checks the copy against the allow-list below, and opens the disk with that copy: what was checked is what
is used.

    a binary header: magic, version 2, size, sha256 checksum, no label, no subsystem; two copies, alike
    JSON   1 keyslot, called 0 or 1 (luks2, 512 bit, AF luks1/sha256/4000 stripes, pbkdf2-sha256, area aes-xts-plain64
           in the header); both while a key is replaced
           0 tokens
           1 segment (crypt, offset 16 MiB, dynamic, iv_tweak 0, aes-xts-plain64, sector 4096; no integrity or flags)
           1 digest (pbkdf2-sha256) that ties the keyslots to segment 0
           config with json_size and keyslots_size: no flags, no requirements

**The header's digest**, by which the key service knows a disk's header, is a SHA-256 over what a key meets: uuid, JSON
text and the areas of the keyslots. It leaves out sequence number, salts and checksums of the binary headers, by which
two copies of one header differ, and the unused rest of the keyslots area. Opening and using a disk changes none of it;
adding or removing a keyslot does. So a disk whose key service names a digest is opened with any valid copy that has
it, also where power failed while the other copy was written.

Source: *LUKS2 On-Disk Format Specification* 1.1.3, sections 2 and 3; binary fields are big-endian.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from policy.luks_metadata import BINARY_BYTES, HeaderRefused, Keyslot, check_metadata, same
from policy.wire import ByteReader

HEADER_SIZES = tuple(1 << shift for shift in range(14, 23))  # 16 KiB … 4 MiB, specification section 2.1
FIRST_MAGIC, SECOND_MAGIC = b"LUKS\xba\xbe", b"SKUL\xba\xbe"
_OFFSET_AT, _CHECKSUM_AT = 256, 448
_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class LuksHeader(NamedTuple):
    """One copy of a header of the profile: what it may still choose. ``at`` is where the copy begins."""

    uuid: str
    header_bytes: int
    sequence: int
    slots: tuple[Keyslot, ...]
    text: bytes
    at: int = 0

    def alike(self, other: LuksHeader) -> bool:
        """Whether this is the other copy of the same header."""
        return self._replace(at=0) == other._replace(at=0)


class _Binary(NamedTuple):
    size: int
    sequence: int
    uuid: bytes
    text: bytes


def check_luks_header(data: bytes) -> LuksHeader:
    """``data``: the beginning of the disk, both binary headers with their JSON areas at least. Both copies must be
    alike and have one keyslot: nobody is asked.

    Raises :class:`HeaderRefused` with what, where, got, want.
    """
    first = _binary(data, "first header", FIRST_MAGIC, 0)
    second = _binary(data, "second header", SECOND_MAGIC, first.size)
    if first != second:
        differing = ", ".join(n for n in _Binary._fields if getattr(first, n) != getattr(second, n))
        raise HeaderRefused(f"LUKS header: the two copies differ in {differing}, want them alike")
    header = _header(first, 0)
    if len(header.slots) != 1:
        raise HeaderRefused(f"keyslots: got {len(header.slots)}, want exactly one")
    return header


def valid_copies(data: bytes) -> tuple[LuksHeader, ...]:
    """The copies of the profile, one keyslot or two, alike or not. Raises HeaderRefused where there is none.

    Two alike copies are given once. Which header a disk with other than one alike pair really has only somebody can
    say who knows its digest: :func:`recognise`.
    """
    found: list[LuksHeader] = []
    problem: HeaderRefused | None = None
    for what, magic, offset in _places(data):
        try:
            found.append(_header(_binary(data, what, magic, offset), offset))
        except HeaderRefused as exc:
            problem = problem or exc
    if not found and problem is not None:
        raise problem
    return tuple(found[:1] if len(found) == 2 and found[0].alike(found[1]) else found)


def recognise(data: bytes, digests: frozenset[str]) -> LuksHeader:
    """The header of ``data`` (16 MiB) whose digest is one of ``digests``. Raises HeaderRefused."""
    copies = valid_copies(data)
    seen = [header_digest(data, copy) for copy in copies]
    for copy, digest in zip(copies, seen, strict=True):
        if digest in digests:
            return copy
    raise HeaderRefused(
        f"LUKS header: digest {' and '.join(seen)}, want {' or '.join(sorted(digests))}: "
        "not the header that the key service knows for this disk"
    )


def header_digest(data: bytes, header: LuksHeader) -> str:
    """SHA-256, hexadecimal, of header and keyslots' areas (see above). Raises HeaderRefused where ``data`` is cut."""
    parts = [b"cvm.luks-header/1", header.uuid.encode("ascii"), header.text]
    for slot in header.slots:
        area = data[slot.start : slot.start + slot.size]
        if len(area) != slot.size:
            raise HeaderRefused(f"keyslot {slot.number}: area {slot.start}..{slot.start + slot.size} is cut off")
        parts += [str(slot.number).encode("ascii"), area]
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(4, "big"))
        whole.update(part)
    return whole.hexdigest()


def in_both_copies(data: bytes, header: LuksHeader) -> bytes:
    """``data`` with ``header``, one of its copies, in both places (specification section 2.1: what differs there)."""
    size = header.header_bytes
    made = bytearray(data)
    for what, magic, offset in (("first header", FIRST_MAGIC, 0), ("second header", SECOND_MAGIC, size)):
        if not _holds(data, what, magic, offset, header):
            copy = bytearray(data[header.at : header.at + size])
            copy[:6] = magic
            copy[_OFFSET_AT : _OFFSET_AT + 8] = offset.to_bytes(8, "big")
            copy[_CHECKSUM_AT : _CHECKSUM_AT + 64] = bytes(64)
            copy[_CHECKSUM_AT : _CHECKSUM_AT + 64] = hashlib.sha256(copy).digest().ljust(64, b"\0")
            made[offset : offset + size] = copy
    return bytes(made)


def _holds(data: bytes, what: str, magic: bytes, offset: int, header: LuksHeader) -> bool:
    try:
        return _header(_binary(data, what, magic, offset), offset).alike(header)
    except HeaderRefused:
        return False


def _places(data: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Where copies may be: the second one's place is known from its magic where the first one does not say."""
    yield "first header", FIRST_MAGIC, 0
    for size in HEADER_SIZES:
        if data[size : size + 6] == SECOND_MAGIC:
            yield "second header", SECOND_MAGIC, size
            return


def _header(binary: _Binary, at: int) -> LuksHeader:
    slots = check_metadata(binary.text, binary.size)
    return LuksHeader(binary.uuid.decode("ascii"), binary.size, binary.sequence, slots, binary.text, at)


def _binary(data: bytes, what: str, magic: bytes, offset: int) -> _Binary:
    """One binary header with its JSON area (specification section 2.1, figure 2)."""
    reader = ByteReader(data[offset : offset + BINARY_BYTES], f"LUKS {what}", error=HeaderRefused, base=offset)
    same(what, "magic", reader.take(6, "magic"), magic)
    same(what, "version", reader.u16be("version"), 2)
    size = int.from_bytes(reader.take(8, "hdr_size"), "big")
    if size not in HEADER_SIZES or (offset and size != offset):
        raise HeaderRefused(f"{what}: hdr_size {size}, want {offset or 'a power of two from 16 KiB to 4 MiB'}")
    sequence = int.from_bytes(reader.take(8, "seqid"), "big")
    reader.zero(48, "label")
    same(what, "csum_alg", reader.take(32, "csum_alg"), b"sha256".ljust(32, b"\0"))
    reader.skip(64, "salt")
    uuid = reader.take(40, "uuid").rstrip(b"\0")
    if not _UUID.fullmatch(uuid):
        raise HeaderRefused(f"{what}: uuid {uuid[:40]!r} is none")
    reader.zero(48, "subsystem")
    same(what, "hdr_offset", int.from_bytes(reader.take(8, "hdr_offset"), "big"), offset)
    reader.zero(184, "padding")
    checksum = reader.take(64, "csum")
    reader.zero(BINARY_BYTES - 512, "padding4096")
    whole = bytearray(data[offset : offset + size])
    whole[_CHECKSUM_AT : _CHECKSUM_AT + 64] = bytes(64)
    same(what, "csum", checksum, hashlib.sha256(whole).digest().ljust(64, b"\0"))
    text, _, rest = bytes(whole[BINARY_BYTES:]).partition(b"\0")
    if any(rest):
        raise HeaderRefused(f"{what}: bytes follow the JSON text, want zeros to the end of the area")
    return _Binary(size, sequence, uuid, text)
