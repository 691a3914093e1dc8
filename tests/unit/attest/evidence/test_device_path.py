"""Device paths: the text form of every node, and nodes nobody knows."""

from __future__ import annotations

import struct

import pytest

from attest.evidence.device_nodes import NODES
from attest.evidence.device_path import device_path_text
from attest.evidence.errors import EvidenceMalformed
from ovmf.guid import efi_guid
from tests.fakes.eventlogs import END, file_node, node

G = "01234567-89ab-cdef-0123-456789abcdef"
U = G.upper()
RAW = efi_guid(G)
CASES: list[tuple[int, int, bytes, str]] = [
    (1, 1, b"\x02\x1f", "Pci(0x1F,0x2)"),
    (1, 2, b"\x03", "PcCard(0x3)"),
    (1, 3, struct.pack("<IQQ", 11, 0x1000, 0x1FFF), "MemoryMapped(0xB,0x1000,0x1FFF)"),
    (1, 4, RAW, f"VenHw({U})"),
    (1, 4, RAW + b"\xab\x01", f"VenHw({U},AB01)"),
    (1, 5, struct.pack("<I", 3), "Ctrl(0x3)"),
    (1, 6, struct.pack("<BQ", 1, 0xFED0), "BMC(0x1,0xFED0)"),
    (2, 1, bytes.fromhex("d041030a00000000"), "PciRoot(0x0)"),
    (2, 1, bytes.fromhex("d041080a01000000"), "PcieRoot(0x1)"),
    (2, 1, bytes.fromhex("d041040602000000"), "Floppy(0x2)"),
    (2, 1, bytes.fromhex("d041010300000000"), "Keyboard(0x0)"),
    (2, 1, bytes.fromhex("d041010500000000"), "Serial(0x0)"),
    (2, 1, bytes.fromhex("d0410f0c05000000"), "Acpi(PNP0C0F,0x5)"),
    (2, 2, bytes.fromhex("d041030a0000000000000000") + b"\0\0\0", "AcpiEx(PNP0A03,@@@0000,0x0)"),
    (2, 2, bytes(12) + b"ACPI0016\0CXL\0PNP\0", "AcpiEx(ACPI0016,PNP,CXL)"),
    (2, 3, struct.pack("<II", 0x80010100, 0x80010200), "AcpiAdr(0x80010100,0x80010200)"),
    (2, 4, struct.pack("<I", 7), "NvdimmAcpiAdr(0x7)"),
    (3, 1, struct.pack("<BBH", 1, 0, 0), "Ata(Secondary,Master,0x0)"),
    (3, 2, struct.pack("<HH", 2, 1), "Scsi(0x2,0x1)"),
    (3, 3, struct.pack("<IQQ", 0, 0x1234, 5), "Fibre(0x1234,0x5)"),
    (3, 4, struct.pack("<IQ", 0, 0xABC), "I1394(0000000000000ABC)"),
    (3, 5, b"\x01\x00", "USB(0x1,0x0)"),
    (3, 6, struct.pack("<I", 9), "I2O(0x9)"),
    (3, 9, struct.pack("<I", 1) + RAW + struct.pack("<QQQ", 2, 3, 4), f"Infiniband(0x1,{U},0x2,0x3,0x4)"),
    (3, 10, RAW, f"VenMsg({U})"),
    (3, 10, efi_guid("e0c14753-f9be-11d2-9a0c-0090273fc14d"), "VenPcAnsi()"),
    (3, 10, efi_guid("37499a9d-542f-4c89-a026-35da142094e4") + b"\1\0\0\0", "UartFlowCtrl(01000000)"),
    (3, 11, bytes.fromhex("525400123456").ljust(32, b"\0") + b"\1", "MAC(525400123456,0x1)"),
    (
        3, 12, bytes([10, 0, 2, 15, 10, 0, 2, 2]) + bytes(4) + struct.pack("<HB", 17, 0) + bytes([10, 0, 2, 1]) + bytes([255, 255, 255, 0]),
        "IPv4(10.0.2.2,UDP,DHCP,10.0.2.15,10.0.2.1,255.255.255.0)",
    ),
    (
        3, 13, bytes(15) + b"\1" + bytes(15) + b"\2" + bytes(4) + struct.pack("<HBB", 6, 0, 64) + bytes(16),
        "IPv6(0000:0000:0000:0000:0000:0000:0000:0002,TCP,Static,0000:0000:0000:0000:0000:0000:0000:0001,0x40,"
        "0000:0000:0000:0000:0000:0000:0000:0000)",
    ),
    (3, 14, struct.pack("<IQBBB", 0, 115200, 8, 1, 1), "Uart(115200,8,N,1)"),
    (3, 14, bytes(15), "Uart(DEFAULT,DEFAULT,D,D)"),
    (3, 15, struct.pack("<HHBBB", 0xFFFF, 0xFFFF, 8, 6, 80), "UsbMassStorage(0xFFFF,0xFFFF,0x6,0x50)"),
    (3, 15, struct.pack("<HHBBB", 1, 2, 0x77, 3, 4), "UsbClass(0x1,0x2,0x77,0x3,0x4)"),
    (3, 16, struct.pack("<HHH", 0, 1, 2) + "S1".encode("utf-16-le"), 'UsbWwid(0x1,0x2,0x0,"S1")'),
    (3, 17, b"\4", "Unit(0x4)"),
    (3, 18, struct.pack("<HHH", 1, 0xFFFF, 0), "Sata(0x1,0xFFFF,0x0)"),
    (3, 19, struct.pack("<HHQH", 0, 0x0802, 0, 1) + b"iqn.x\0", "iSCSI(iqn.x,0x1,0x0000000000000000,CRC32C,None,None,TCP)"),
    (3, 20, struct.pack("<H", 12), "Vlan(12)"),
    (3, 21, bytes(4) + bytes(range(16)), "FibreEx(0x0001020304050607,0x08090A0B0C0D0E0F)"),
    (3, 22, bytes(range(16)) + struct.pack("<HH", 1, 2), "SasEx(0x0001020304050607,0x08090A0B0C0D0E0F,0x1,0x2)"),
    (3, 23, struct.pack("<I", 1) + bytes(range(8)), "NVMe(0x1,07-06-05-04-03-02-01-00)"),
    (3, 24, b"http://x/y.efi", "Uri(http://x/y.efi)"),
    (3, 25, b"\1\2", "UFS(0x1,0x02)"),
    (3, 26, b"\1", "SD(0x1)"),
    (3, 27, bytes(range(6)), "Bluetooth(000102030405)"),
    (3, 28, b"ssid".ljust(32, b"\0"), "Wi-Fi(ssid)"),
    (3, 29, b"\2", "eMMC(0x2)"),
    (3, 30, bytes(range(6)) + b"\1", "BluetoothLE(000102030405,0x01)"),
    (3, 31, b"\0" + bytes([8, 8, 8, 8]).ljust(16, b"\0"), "Dns(8.8.8.8)"),
    (3, 32, RAW, f"NVDIMM({U})"),
    (3, 33, b"\1\2", "RestService(0x1,0x2)"),
    (3, 34, b"\1" + bytes(16) + b"nqn\0", f"NVMEoF(nqn,0x1,{'0' * 32})"),
    (4, 1, struct.pack("<IQQ", 1, 0x800, 0x1000) + RAW + b"\2\2", f"HD(1,GPT,{U},0x800,0x1000)"),
    (4, 1, struct.pack("<IQQ", 1, 0x800, 0x1000) + b"\x78\x56\x34\x12" + bytes(12) + b"\1\1", "HD(1,MBR,0x12345678,0x800,0x1000)"),
    (4, 1, struct.pack("<IQQ", 1, 0, 0) + bytes(16) + b"\0\0", f"HD(1,0,0,{'0' * 32},0x0,0x0)"),
    (4, 2, struct.pack("<IQQ", 0, 0x100, 0x200), "CDROM(0x0,0x100,0x200)"),
    (4, 3, RAW, f"VenMedia({U})"),
    (4, 4, "\\EFI\\a.efi".encode("utf-16-le") + b"\0\0", "\\EFI\\a.efi"),
    (4, 5, RAW, f"Media({U})"),
    (4, 6, RAW, f"FvFile({U})"),
    (4, 7, RAW, f"Fv({U})"),
    (4, 8, bytes(4) + struct.pack("<QQ", 1, 2), "Offset(0x1,0x2)"),
    (4, 9, struct.pack("<QQ", 1, 2) + efi_guid("77ab535a-45fc-624b-5560-f7b281d1f96e") + b"\3\0", "VirtualDisk(0x1,0x2,3)"),
    (4, 9, struct.pack("<QQ", 1, 2) + RAW + b"\3\0", f"RamDisk(0x1,0x2,3,{U})"),
    (5, 1, struct.pack("<HH", 2, 0x10) + b"disk\0", "BBS(HD,disk,0x10)"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "subtype", "body", "text"), CASES, ids=lambda value: str(value)[:24])
def test_a_node_has_its_text_form(kind: int, subtype: int, body: bytes, text: str) -> None:
    assert device_path_text(node(kind, subtype, body) + END) == text


def test_every_form_has_a_case() -> None:
    assert {(kind, subtype) for kind, subtype, _, _ in CASES} == set(NODES)


@pytest.mark.parametrize(("kind", "subtype", "body", "text"), CASES, ids=lambda value: str(value)[:24])
def test_a_known_node_cut_short_is_shown_or_hexadecimal_and_never_an_error(
    kind: int, subtype: int, body: bytes, text: str
) -> None:
    for end in range(len(body)):
        assert device_path_text(node(kind, subtype, body[:end]) + END)


def test_a_node_nobody_knows_is_hexadecimal() -> None:
    assert device_path_text(node(6, 9, b"\x01\xab") + END) == "Path(6,9,01AB)"
    assert device_path_text(node(3, 99) + END) == "Path(3,99)"
    assert device_path_text(node(1, 1, b"\1") + END) == "Path(1,1,01)"


def test_nodes_are_joined_by_slashes_and_instances_by_commas() -> None:
    one = node(2, 1, bytes.fromhex("d041030a00000000")) + node(1, 1, b"\0\3")
    path = one + file_node("\\a") + bytes.fromhex("7f010400") + one + END
    assert device_path_text(path) == "PciRoot(0x0)/Pci(0x3,0x0)/\\a,PciRoot(0x0)/Pci(0x3,0x0)"
    assert device_path_text(b"") == ""
    assert device_path_text(END) == ""


@pytest.mark.parametrize(
    "path",
    [
        node(1, 1, b"\0\3"), END + END, END[:3], b"\x01\x01\x03\x00" + END, b"\x01\x01\xff\x00" + END,
        b"\x7f\x02\x04\x00", b"\x7f\xff\x05\x00\x00", node(1, 2, b"\1") * 300 + END,
    ],
)  # fmt: skip
def test_a_path_without_one_end_or_with_a_wrong_length_is_refused(path: bytes) -> None:
    with pytest.raises(EvidenceMalformed):
        device_path_text(path)


def test_unprintable_characters_of_a_name_never_reach_a_terminal() -> None:
    assert device_path_text(file_node("a\x1b[2J\u202e") + END) == "a\\x1b[2J\\u202e"
