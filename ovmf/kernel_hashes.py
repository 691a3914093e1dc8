"""The table of boot hashes QEMU places in guest memory so that the firmware can check what it is given to boot.

Layout, 168 bytes padded with zeros to 176: table GUID, length u16 = 168, then three entries {GUID, length u16 = 50,
SHA-256} in the order command line, initrd, kernel. GUIDs in EFI order, lengths little-endian. Sources: QEMU
``target/i386/sev.c`` (``SevHashTable``), edk2 ``OvmfPkg/AmdSev/BlobVerifierLibSevHashes``.
"""

from __future__ import annotations

from hashlib import sha256

from ovmf.errors import HashTableMalformed, LaunchInvalid
from ovmf.guid import efi_guid, guid_text
from policy.wire import ByteReader

_TABLE = efi_guid("9438d606-4f22-4cc9-b479-a793d411fd21")
_CMDLINE = efi_guid("97d02dd8-bd20-4c94-aa78-e7714d36ab2a")
_INITRD = efi_guid("44baf731-3a2f-4bd7-9af1-41e29169781d")
_KERNEL = efi_guid("4de79437-abd2-427f-b835-d5b172d2045b")
_TABLE_LENGTH, _ENTRY_LENGTH = 168, 50

TABLE_SIZE = 176
"""Bytes QEMU writes, with padding."""

NO_INITRD = sha256(b"").digest()
"""What stands for an initrd that is not given: the SHA-256 of nothing."""


class KernelHashes:
    """Three SHA-256 digests of 32 bytes. The command line's covers its trailing NUL byte."""

    __slots__ = ("cmdline_sha256", "initrd_sha256", "kernel_sha256")

    def __init__(self, kernel_sha256: bytes, initrd_sha256: bytes, cmdline_sha256: bytes) -> None:
        for name, digest in (("kernel", kernel_sha256), ("initrd", initrd_sha256), ("cmdline", cmdline_sha256)):
            if len(digest) != 32:
                raise LaunchInvalid(f"{name} hash: got {len(digest)} bytes, want 32")
        self.kernel_sha256 = kernel_sha256
        self.initrd_sha256 = initrd_sha256
        self.cmdline_sha256 = cmdline_sha256

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KernelHashes) and hash_table_bytes(self) == hash_table_bytes(other)

    def __hash__(self) -> int:
        return hash(hash_table_bytes(self))

    def __repr__(self) -> str:
        return (
            f"KernelHashes(kernel={self.kernel_sha256.hex()}, initrd={self.initrd_sha256.hex()}, "
            f"cmdline={self.cmdline_sha256.hex()})"
        )


def cmdline_hash(cmdline: bytes) -> bytes:
    """SHA-256 of the command line as the guest sees it: its bytes and a NUL. Raises on an embedded NUL."""
    if b"\0" in cmdline:
        raise LaunchInvalid("cmdline: contains a NUL byte")
    return sha256(cmdline + b"\0").digest()


def hash_table_bytes(hashes: KernelHashes) -> bytes:
    """The 176 bytes exactly as QEMU writes them."""
    entry = _ENTRY_LENGTH.to_bytes(2, "little")
    table = _TABLE + _TABLE_LENGTH.to_bytes(2, "little")
    table += _CMDLINE + entry + hashes.cmdline_sha256
    table += _INITRD + entry + hashes.initrd_sha256
    table += _KERNEL + entry + hashes.kernel_sha256
    return table.ljust(TABLE_SIZE, b"\0")


def kernel_hashes_page(hashes: KernelHashes, hash_table_gpa: int) -> bytes:
    """The 4096-byte page QEMU measures: zeros, with the table at the firmware's address within its page."""
    offset = hash_table_gpa & 0xFFF
    if offset + TABLE_SIZE > 4096:
        raise LaunchInvalid(f"hash table at 0x{hash_table_gpa:X} crosses a page boundary")
    return (bytes(offset) + hash_table_bytes(hashes)).ljust(4096, b"\0")


def parse_hash_table(data: bytes) -> KernelHashes:
    """The hashes in 176 bytes as QEMU writes them; anything else raises :class:`HashTableMalformed`."""
    reader = ByteReader(data, "hash table", error=HashTableMalformed)
    _expect(reader, "table", _TABLE, _TABLE_LENGTH)
    _expect(reader, "cmdline", _CMDLINE, _ENTRY_LENGTH)
    cmdline = reader.take(32, "cmdline hash")
    _expect(reader, "initrd", _INITRD, _ENTRY_LENGTH)
    initrd = reader.take(32, "initrd hash")
    _expect(reader, "kernel", _KERNEL, _ENTRY_LENGTH)
    kernel = reader.take(32, "kernel hash")
    reader.zero(TABLE_SIZE - _TABLE_LENGTH, "padding")
    reader.end()
    return KernelHashes(kernel, initrd, cmdline)


def _expect(reader: ByteReader, name: str, guid: bytes, length: int) -> None:
    start = reader.offset
    found = reader.take(16, f"{name} GUID")
    if found != guid:
        raise reader.fail(f"{name} GUID at 0x{start:X}: got {guid_text(found)}, want {guid_text(guid)}")
    got = reader.u16(f"{name} length")
    if got != length:
        raise reader.fail(f"{name} length at 0x{start + 16:X}: got {got}, want {length}")
