"""The GUIDed table at the end of an OVMF image.

The table lies just below the last 32 bytes (the reset vector) and is read from its end towards lower addresses. Each
entry is ``data, length (u16, little-endian, of data plus these 18 bytes), GUID (EFI order)``; the last one has the
footer GUID and its length is that of the whole table. Source: edk2 ``OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm``.
"""

from __future__ import annotations

from ovmf.errors import FirmwareMalformed
from ovmf.guid import efi_guid, guid_text
from policy.wire import ByteReader

FOOTER = efi_guid("96b582de-1fb2-45f7-baea-a366c55a082d")
SEV_ES_RESET_BLOCK = efi_guid("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
SEV_HASH_TABLE = efi_guid("7255371f-3a3b-4b04-927b-1da6efa8d454")
SEV_METADATA = efi_guid("dc886566-984a-4798-a75e-5585a7bf67cc")
TDX_METADATA = efi_guid("e47a6535-984a-4798-865e-4685a7bf8ec2")

_RESET_VECTOR = 32
_ENTRY_HEADER = 18


class Footer:
    """The parsed table: ``entries`` maps a GUID (16 bytes, EFI order) to its data; unknown GUIDs are kept unread."""

    __slots__ = ("entries",)

    def __init__(self, entries: dict[bytes, bytes]) -> None:
        self.entries = entries

    def reset_eip(self) -> int:
        """Where application processors start (u32), from the SEV-ES reset block; its absence is an error."""
        data = self.entries.get(SEV_ES_RESET_BLOCK)
        if data is None:
            raise FirmwareMalformed(
                "firmware: footer: no SEV-ES reset block, so vCPUs cannot be measured",
                hint="use an OVMF build with SEV support, such as OVMF.amdsev.fd",
            )
        eip = ByteReader(data, "firmware: SEV-ES reset block", error=FirmwareMalformed).u32("address")
        if eip == 0:
            raise FirmwareMalformed("firmware: SEV-ES reset block: address is 0")
        return eip

    def hash_table_gpa(self) -> int | None:
        """Guest physical address of the boot hash table (u32), or ``None`` when the firmware reserves none.

        A reserved area smaller than the table (176 bytes) is an error, as it is to QEMU.
        """
        data = self.entries.get(SEV_HASH_TABLE)
        if data is None:
            return None
        reader = ByteReader(data, "firmware: SEV hash table area", error=FirmwareMalformed)
        base, size = reader.u32("base"), reader.u32("size")
        if base == 0:
            return None
        if size < 176:
            raise reader.fail(f"size: got {size} bytes, want at least 176")
        return base

    def metadata_offset(self) -> int | None:
        """Distance in bytes of the SEV metadata from the end of the image, or ``None`` without metadata."""
        data = self.entries.get(SEV_METADATA)
        if data is None:
            return None
        return ByteReader(data, "firmware: SEV metadata entry", error=FirmwareMalformed).u32("offset")

    def tdx_metadata_offset(self) -> int | None:
        """Distance in bytes of the TDVF descriptor from the end of the image, or ``None``: it cannot start a TD."""
        data = self.entries.get(TDX_METADATA)
        if data is None:
            return None
        return ByteReader(data, "firmware: TDX metadata entry", error=FirmwareMalformed).u32("offset")


def parse_footer(firmware: bytes) -> Footer:
    """Read the table of a whole firmware image, or raise :class:`FirmwareMalformed`.

    Refused: no footer GUID, a table longer than the image, an entry shorter than its own header or longer than what is
    left, left-over bytes, a GUID that appears twice (readers disagree which one counts).
    """
    end = len(firmware) - _RESET_VECTOR
    if end < _ENTRY_HEADER:
        raise FirmwareMalformed(f"firmware: got {len(firmware)} bytes, too short for a footer table")
    total, guid = _entry_header(firmware[end - _ENTRY_HEADER : end], end - _ENTRY_HEADER)
    if guid != FOOTER:
        raise FirmwareMalformed(
            f"firmware: footer GUID at 0x{end - 16:X}: got {guid_text(guid)}, want {guid_text(FOOTER)}",
            hint="this is not an OVMF image, or it has no SEV support",
        )
    if not _ENTRY_HEADER <= total <= end:
        raise FirmwareMalformed(f"firmware: footer at 0x{end - _ENTRY_HEADER:X}: table length {total}, want 18..{end}")
    return Footer(_entries(firmware[end - total : end - _ENTRY_HEADER], end - total))


def _entries(table: bytes, base: int) -> dict[bytes, bytes]:
    entries: dict[bytes, bytes] = {}
    end = len(table)
    while end:
        start = end - _ENTRY_HEADER
        if start < 0:
            raise FirmwareMalformed(f"firmware: footer: {end} bytes at 0x{base:X} belong to no entry")
        length, guid = _entry_header(table[start:end], base + start)
        if not _ENTRY_HEADER <= length <= end:
            raise FirmwareMalformed(
                f"firmware: footer entry {guid_text(guid)} at 0x{base + start:X}: length {length}, want 18..{end}"
            )
        if guid in entries:
            raise FirmwareMalformed(f"firmware: footer: {guid_text(guid)} appears twice")
        entries[guid] = table[end - length : start]
        end -= length
    return entries


def _entry_header(raw: bytes, base: int) -> tuple[int, bytes]:
    reader = ByteReader(raw, "firmware: footer", error=FirmwareMalformed, base=base)
    return reader.u16("length"), reader.take(16, "GUID")
