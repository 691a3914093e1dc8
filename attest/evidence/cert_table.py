"""The certificate table of an extended report (auxblob): written by the host, so every byte of it is hostile.

Source: AMD, *SEV-ES Guest-Hypervisor Communication Block Standardization* (document 56421), revision 2.03, section
"SNP Extended Guest Request". Entries of 24 bytes (GUID in text order, u32 offset, u32 length) end with a zero entry;
offsets count from the start of the table; hosts pad the whole to pages.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from attest.evidence.errors import EvidenceMalformed
from attest.evidence.pem import CERTIFICATE, looks_like_pem, parse_pem
from attest.evidence.pem import CRL as PEM_CRL
from policy.wire import ByteReader

VCEK = UUID("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK = UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
ASK = UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782")
ARK = UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae")
CRL = UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea")
NAMES = {VCEK: "VCEK", VLEK: "VLEK", ASK: "ASK", ARK: "ARK", CRL: "CRL"}

_ENTRY = 24
_MAX_ENTRIES = 64


class CertEntry(NamedTuple):
    """One certificate or other blob; ``name`` is ``None`` for a GUID this release does not know."""

    guid: UUID
    data: bytes

    @property
    def name(self) -> str | None:
        """VCEK, VLEK, ASK (also used for the ASVK), ARK or CRL."""
        return NAMES.get(self.guid)

    @property
    def ders(self) -> tuple[bytes, ...]:
        """What is inside as DER: hosts keep certificates in either form, and count padding (zeros) into the length of
        some. Raises :class:`EvidenceMalformed`.
        """
        if not looks_like_pem(self.data):
            return (_without_padding(self.data),)
        return tuple(block.data for block in parse_pem(self.data) if block.label in (CERTIFICATE, PEM_CRL))


def _without_padding(der: bytes) -> bytes:
    if not der.startswith(b"\x30\x82"):
        return der
    end = 4 + int.from_bytes(der[2:4], "big")
    return der if any(der[end:]) else der[:end]


def parse_cert_table(data: bytes, *, base: int = 0) -> tuple[CertEntry, ...]:
    """Read a table; ``base`` is where it stands in its file, for messages.

    An all-zero table, and no bytes at all, hold no entries. Raises :class:`EvidenceMalformed` for a missing end entry,
    a GUID that occurs twice, and an entry that overlaps the entries or leaves the buffer.
    """
    data = bytes(data)
    if not data:
        return ()
    headers = _headers(ByteReader(data, "certificate table", error=EvidenceMalformed, base=base))
    first = _ENTRY * (len(headers) + 1)
    entries = []
    for guid, offset, length in headers:
        # Python integers do not wrap: a huge offset plus a huge length stays huge.
        if length == 0 or offset < first or offset + length > len(data):
            raise EvidenceMalformed(
                f"certificate table: entry {NAMES.get(guid, guid)} spans 0x{offset:x}..0x{offset + length:x}, "
                f"want a part of 0x{first:x}..0x{len(data):x}"
            )
        entries.append(CertEntry(guid, data[offset : offset + length]))
    return tuple(entries)


def _headers(reader: ByteReader) -> list[tuple[UUID, int, int]]:
    headers: list[tuple[UUID, int, int]] = []
    seen: set[UUID] = set()
    while True:
        raw, offset, length = reader.take(16, "entry GUID"), reader.u32("entry offset"), reader.u32("entry length")
        if not any(raw):
            if offset or length:
                raise reader.fail(f"end entry has offset 0x{offset:x} and length 0x{length:x}, want zero")
            return headers
        guid = _guid(raw)
        if guid in seen:
            raise reader.fail(f"entry {NAMES.get(guid, guid)} occurs twice, want once")
        if len(headers) == _MAX_ENTRIES:
            raise reader.fail(f"more than {_MAX_ENTRIES} entries")
        seen.add(guid)
        headers.append((guid, offset, length))


def _guid(raw: bytes) -> UUID:
    """In text order, as the specification has it; some hosts write the known ones in the mixed order of EFI."""
    guid, mixed = UUID(bytes=raw), UUID(bytes_le=raw)
    return mixed if guid not in NAMES and mixed in NAMES else guid


def build_cert_table(entries: Iterable[CertEntry], *, page: int = 4096) -> bytes:
    """The table of ``entries``, padded with zeros to whole pages."""
    listed = list(entries)
    offset = _ENTRY * (len(listed) + 1)
    head = bytearray()
    body = bytearray()
    for entry in listed:
        head += entry.guid.bytes + struct.pack("<II", offset + len(body), len(entry.data))
        body += entry.data
    table = bytes(head) + bytes(_ENTRY) + bytes(body)
    return table + bytes(-len(table) % page)


def looks_like_cert_table(data: bytes) -> bool:
    """Whether the first entry carries a known GUID."""
    return len(data) >= 2 * _ENTRY and _guid(bytes(data[:16])) in NAMES
