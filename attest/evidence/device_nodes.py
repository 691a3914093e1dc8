"""The text form of each device path node: hardware, ACPI, media and BBS here, messaging in its own module.

A form reads the node's bytes behind its four-byte header; leftover bytes make the caller show the node in hexadecimal.
Source: UEFI 2.10, section 10.6.1.6, table "Device Node Table".
"""

from __future__ import annotations

from collections.abc import Callable

from attest.evidence.device_messaging import MESSAGING
from attest.evidence.event_text import guid, shown
from policy.wire import ByteReader

Form = Callable[[ByteReader], str]


def _pci(reader: ByteReader) -> str:
    function, device = reader.u8("function"), reader.u8("device")
    return f"Pci(0x{device:X},0x{function:X})"


def _pc_card(reader: ByteReader) -> str:
    return f"PcCard(0x{reader.u8('function'):X})"


def _memory_mapped(reader: ByteReader) -> str:
    return f"MemoryMapped(0x{reader.u32('type'):X},0x{reader.u64('start'):X},0x{reader.u64('end'):X})"


def _vendor(name: str) -> Form:
    def form(reader: ByteReader) -> str:
        vendor, rest = guid(reader.take(16, "vendor")), reader.take(reader.remaining, "data")
        return f"{name}({vendor}{',' + rest.hex().upper() if rest else ''})"

    return form


def _controller(reader: ByteReader) -> str:
    return f"Ctrl(0x{reader.u32('controller'):X})"


def _bmc(reader: ByteReader) -> str:
    return f"BMC(0x{reader.u8('interface'):X},0x{reader.u64('address'):X})"


def _eisa(number: int) -> str:
    """``PNP0A03``: three letters of five bits and four hexadecimal digits, in a 32-bit number."""
    low = number & 0xFFFF
    letters = "".join(chr(0x40 + (low >> shift & 0x1F)) for shift in (10, 5, 0))
    return f"{letters}{number >> 16:04X}"


_ACPI_NAMES = {
    "PNP0A03": "PciRoot", "PNP0A08": "PcieRoot", "PNP0604": "Floppy", "PNP0301": "Keyboard", "PNP0501": "Serial",
    "PNP0401": "ParallelPort",
}  # fmt: skip


def _acpi(reader: ByteReader) -> str:
    device, unique = _eisa(reader.u32("HID")), reader.u32("UID")
    name = _ACPI_NAMES.get(device)
    return f"{name}(0x{unique:X})" if name else f"Acpi({shown(device)},0x{unique:X})"


def _acpi_expanded(reader: ByteReader) -> str:
    hid, uid, cid = (reader.u32(name) for name in ("HID", "UID", "CID"))
    strings = reader.take(reader.remaining, "strings").split(b"\0")
    if len(strings) != 4 or strings[3]:
        raise reader.fail("want three strings, each ended by a zero byte")
    hid_text, uid_text, cid_text = (shown(item.decode("ascii")) for item in strings[:3])
    return f"AcpiEx({hid_text or shown(_eisa(hid))},{cid_text or shown(_eisa(cid))},{uid_text or f'0x{uid:X}'})"


def _acpi_address(reader: ByteReader) -> str:
    if not reader.remaining or reader.remaining > 4 * 64:
        raise reader.fail("want 1 to 64 addresses")
    addresses = []
    while reader.remaining:
        addresses.append(f"0x{reader.u32('address'):X}")
    return f"AcpiAdr({','.join(addresses)})"


def _hard_drive(reader: ByteReader) -> str:
    partition, start, size = reader.u32("partition"), reader.u64("start"), reader.u64("size")
    signature, table, kind = reader.take(16, "signature"), reader.u8("table"), reader.u8("signature type")
    if table == 1 and kind == 1:
        name = f"MBR,0x{int.from_bytes(signature[:4], 'little'):08X}"
    elif table == 2 and kind == 2:
        name = f"GPT,{guid(signature)}"
    else:
        name = f"{table},{kind},{signature.hex().upper()}"
    return f"HD({partition},{name},0x{start:X},0x{size:X})"


def _cdrom(reader: ByteReader) -> str:
    return f"CDROM(0x{reader.u32('entry'):X},0x{reader.u64('start'):X},0x{reader.u64('size'):X})"


def _file_path(reader: ByteReader) -> str:
    """The name alone, without its final NUL: that is the specification's form."""
    raw = reader.take(reader.remaining, "file path")
    if len(raw) % 2 or raw[-2:] != b"\0\0":
        raise reader.fail("want UTF-16 text that ends with NUL")
    return shown(raw[:-2].decode("utf-16-le", "surrogatepass"))


def _media_guid(name: str) -> Form:
    return lambda reader: f"{name}({guid(reader.take(16, name))})"


def _offset(reader: ByteReader) -> str:
    reader.skip(4, "reserved")
    return f"Offset(0x{reader.u64('start'):X},0x{reader.u64('end'):X})"


_RAM_DISKS = {
    "77AB535A-45FC-624B-5560-F7B281D1F96E": "VirtualDisk",
    "3D5ABD30-4175-87CE-6D64-D2ADE523C4BB": "VirtualCD",
    "5CEA02C9-4D07-69D3-269F-4496FBE096F9": "PersistentVirtualDisk",
    "08018188-42CD-BB48-100F-5387D53DED3D": "PersistentVirtualCD",
}


def _ram_disk(reader: ByteReader) -> str:
    start, end = reader.u64("start"), reader.u64("end")
    kind, instance = guid(reader.take(16, "type")), reader.u16("instance")
    name = _RAM_DISKS.get(kind)
    tail = f"0x{start:X},0x{end:X},{instance}"
    return f"{name}({tail})" if name else f"RamDisk({tail},{kind})"


_BBS_TYPES = {1: "Floppy", 2: "HD", 3: "CDROM", 4: "PCMCIA", 5: "USB", 6: "Network"}


def _bbs(reader: ByteReader) -> str:
    kind, flags = reader.u16("type"), reader.u16("flags")
    raw = reader.take(reader.remaining, "description")
    if raw[-1:] != b"\0" or b"\0" in raw[:-1]:
        raise reader.fail("want a string ended by a zero byte")
    return f"BBS({_BBS_TYPES.get(kind, f'0x{kind:X}')},{shown(raw[:-1].decode('ascii'))},0x{flags:X})"


NODES: dict[tuple[int, int], Form] = {
    (1, 1): _pci,
    (1, 2): _pc_card,
    (1, 3): _memory_mapped,
    (1, 4): _vendor("VenHw"),
    (1, 5): _controller,
    (1, 6): _bmc,
    (2, 1): _acpi,
    (2, 2): _acpi_expanded,
    (2, 3): _acpi_address,
    (2, 4): lambda reader: f"NvdimmAcpiAdr(0x{reader.u32('handle'):X})",
    (4, 1): _hard_drive,
    (4, 2): _cdrom,
    (4, 3): _vendor("VenMedia"),
    (4, 4): _file_path,
    (4, 5): _media_guid("Media"),
    (4, 6): _media_guid("FvFile"),
    (4, 7): _media_guid("Fv"),
    (4, 8): _offset,
    (4, 9): _ram_disk,
    (5, 1): _bbs,
    **{(3, subtype): form for subtype, form in MESSAGING.items()},
}
"""Forms by (type, subtype)."""
