"""Boot options made for devices: byte by byte those of a recorded boot."""

from __future__ import annotations

from ovmf.boot_options import BootOption, found_options

OWN = (BootOption(0, b"menu"), BootOption(1, b"setup"))
MAC = bytes.fromhex("02617ddebc94")
# Variables of a boot of OVMF 2026.08 with disks in slots 1 and 2 and an interface in slot 3: description, path, mark.
RECORDED = (
    ("UEFI Misc Device", "02010c00d041030a000000000101060000017fff0400"),
    ("UEFI Misc Device 2", "02010c00d041030a000000000101060000027fff0400"),
    (
        "UEFI PXEv4 (MAC:02617DDEBC94)",
        f"02010c00d041030a00000000010106000003030b250002617ddebc94{'00' * 26}01030c1b00{'00' * 23}7fff0400",
    ),
    (
        "UEFI PXEv6 (MAC:02617DDEBC94)",
        f"02010c00d041030a00000000010106000003030b250002617ddebc94{'00' * 26}01030d3c00{'00' * 39}40{'00' * 16}7fff0400",
    ),
    (
        "UEFI HTTPv4 (MAC:02617DDEBC94)",
        f"02010c00d041030a00000000010106000003030b250002617ddebc94{'00' * 26}01030c1b00{'00' * 23}031804007fff0400",
    ),
    (
        "UEFI HTTPv6 (MAC:02617DDEBC94)",
        f"02010c00d041030a00000000010106000003030b250002617ddebc94{'00' * 26}01"
        f"030d3c00{'00' * 39}40{'00' * 16}031804007fff0400",
    ),
)
MARK = bytes.fromhex("4eac0881119f594d850ee21a522c59b2")


def recorded(description: str, path: str) -> bytes:
    nodes = bytes.fromhex(path)
    head = (1).to_bytes(4, "little") + len(nodes).to_bytes(2, "little")
    return head + description.encode("utf-16-le") + b"\0\0" + nodes + MARK


def test_disks_then_interfaces_then_the_shell_follow_the_firmwares_own_options() -> None:
    found = found_options(OWN, b"shell", (1, 2), [(3, MAC)])
    assert [option.number for option in found] == list(range(9))
    assert found[:2] == OWN
    assert [option.data for option in found[2:8]] == [recorded(*item) for item in RECORDED]
    assert found[8].data == b"shell"


def test_without_devices_and_shell_the_firmwares_own_options_are_all() -> None:
    assert found_options(OWN, None, (), ()) == OWN
