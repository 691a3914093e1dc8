"""The boot options a disk boot is measured with: when they are known, and a copy of a guest's variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.core.network import Net
from launcher.core.plan import described
from launcher.core.qemu_features import NO_QEMU
from launcher.core.spec import VmSpec
from launcher.core.vm import Disk, VmConfig
from launcher.io.hashing import FileUnreadable
from launcher.io.machine_probe import ShownMachine
from launcher.io.measurement import MeasurementImpossible
from launcher.io.td_boot_options import made_by_firmware, read_variables
from ovmf.boot_options import BootOption, found_options
from policy.vocab import Platform
from tests.unit.ovmf.test_td_predict import NEW

OWN = (BootOption(0, b"menu"), BootOption(1, b"setup"))
LAYOUT = NEW._replace(boot_options=OWN, shell=b"shell")
SHOWN = ShownMachine({}, b"", {}, ((0, 0x29C08086), (1, 0x10421AF4), (2, 0x10411AF4), (3, 0x10431AF4)))
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"


def spec(net: Net | None = None, bus: str = "virtio", platform: Platform = Platform.EMULATED_TDX) -> VmSpec:
    return described(VmConfig("vm", platform, 1 << 30, disks=(Disk("/d", "d", bus=bus),), net=net), "tcg", NO_QEMU)


def test_options_are_made_for_virtio_devices_in_their_slots() -> None:
    net = Net(mac="02:00:00:00:00:01")
    want = found_options(OWN, b"shell", [1], [(2, bytes.fromhex("020000000001"))])
    assert made_by_firmware(spec(net), LAYOUT, SHOWN) == want


@pytest.mark.parametrize("other", [
    spec(platform=Platform.TDX), spec(bus="nvme"), spec(Net(model="e1000e", mac="02:00:00:00:00:01")), spec(Net()),
])  # fmt: skip
def test_options_of_machines_nobody_watched_are_not_known(other: VmSpec) -> None:
    assert made_by_firmware(other, LAYOUT, SHOWN) is None


def test_a_build_with_other_options_of_its_own_is_not_known() -> None:
    assert made_by_firmware(spec(), LAYOUT._replace(boot_options=OWN[:1]), SHOWN) is None


def variables(folder: Path, **contents: bytes) -> str:
    for name, data in contents.items():
        (folder / f"{name}-{GLOBAL}").write_bytes(data)
    return str(folder)


def test_a_guests_variables_are_read_in_the_order_it_boots(tmp_path: Path) -> None:
    folder = variables(
        tmp_path, BootOrder=b"\7\0\0\0\2\0\0\0", Boot0002=b"\7\0\0\0two", Boot0000=b"\7\0\0\0zero", Boot0005=b"unused"
    )
    assert read_variables(folder) == (BootOption(2, b"two"), BootOption(0, b"zero"))


@pytest.mark.parametrize("order", [b"\7\0\0\0\2", b"\7\0\0\0\2\0\2\0", b"\7\0\0\0", b"\7\0\0\0" + bytes(130)])
def test_an_order_that_is_none_is_refused(tmp_path: Path, order: bytes) -> None:
    with pytest.raises(MeasurementImpossible, match="boot variables: BootOrder"):
        read_variables(variables(tmp_path, BootOrder=order, Boot0002=b"\7\0\0\0two", Boot0000=b"\7\0\0\0zero"))


def test_an_option_that_is_listed_and_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match=r"Boot0002-.*No such file"):
        read_variables(variables(tmp_path, BootOrder=b"\7\0\0\0\2\0"))
