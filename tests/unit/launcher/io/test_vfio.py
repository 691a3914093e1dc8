"""PCI functions in a made-up ``/sys``: groups are checked, drivers change and change back. No VFIO is at hand here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.core.hardware import FIRST_DEVICE_FD, GROUP, IOMMU_FD, Passthrough, Placement
from launcher.io import vfio
from launcher.io.vfio import PassthroughImpossible, check_groups, taken
from launcher.service.passing import passthrough_findings
from tests.fakes.vm_files import web_1

NIC, OTHER, BRIDGE = "0000:41:00.0", "0000:41:00.1", "0000:40:00.0"


def function(root: Path, address: str, group: int, *, driver: str | None = "mlx5_core", kind: str = "0x020000") -> Path:
    folder = root / "sys/bus/pci/devices" / address
    folder.mkdir(parents=True)
    (folder / "class").write_text(f"{kind}\n")
    (folder / "numa_node").write_text("1\n")
    (folder / "driver_override").write_text("(null)\n")
    members = root / f"sys/kernel/iommu_groups/{group}/devices"
    members.mkdir(parents=True, exist_ok=True)
    (members / address).symlink_to(folder)
    (folder / "iommu_group").symlink_to(members.parent)
    if driver:
        use(root, folder, driver)
    return folder


def use(root: Path, folder: Path, driver: str) -> None:
    home = root / "sys/bus/pci/drivers" / driver
    home.mkdir(parents=True, exist_ok=True)
    (home / "unbind").touch()
    (folder / "driver").unlink(missing_ok=True)
    (folder / "driver").symlink_to(home)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "sys/bus/pci").mkdir(parents=True)
    (tmp_path / "sys/bus/pci/drivers_probe").touch()
    (tmp_path / "dev/vfio/devices").mkdir(parents=True)
    (tmp_path / "dev/iommu").touch()
    (tmp_path / "dev/vfio/devices/vfio0").touch()
    return tmp_path


@pytest.fixture
def kernel(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What a kernel does on a write to drivers_probe: the override decides, else the device's own driver."""
    written: list[tuple[str, str]] = []
    write = vfio.write_text

    def writing(path: Path, text: str) -> None:
        written.append((path.name, text))
        write(path, text)
        if path.name == "driver_override":
            path.write_text(text)
        if path.name == "drivers_probe":
            folder = root / "sys/bus/pci/devices" / text
            override = (folder / "driver_override").read_text().strip()
            use(root, folder, override or "mlx5_core")
            if override:
                (folder / "vfio-dev/vfio0").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(vfio, "write_text", writing)
    return written


def test_a_function_is_bound_handed_over_and_given_back(root: Path, kernel: list[tuple[str, str]]) -> None:
    folder = function(root, NIC, 7)
    with taken((Passthrough(NIC),), root) as fds:
        assert (folder / "driver").resolve().name == "vfio-pci"
        assert [number for _, number in fds] == [IOMMU_FD, FIRST_DEVICE_FD]
        names = [os.readlink(f"/proc/self/fd/{descriptor}") for descriptor, _ in fds]
        assert names == [str(root / "dev/iommu"), str(root / "dev/vfio/devices/vfio0")]
    assert (folder / "driver").resolve().name == "mlx5_core"
    assert kernel[:3] == [("driver_override", "vfio-pci"), ("unbind", NIC), ("drivers_probe", NIC)]
    assert kernel[3:] == [("driver_override", "\n"), ("unbind", NIC), ("drivers_probe", NIC)]


def test_the_driver_gets_it_back_when_the_launch_fails(root: Path, kernel: list[tuple[str, str]]) -> None:
    folder = function(root, NIC, 7)
    (root / "dev/iommu").unlink()
    with pytest.raises(PassthroughImpossible, match="dev/iommu: No such file"), taken((Passthrough(NIC),), root):
        pass
    assert (folder / "driver").resolve().name == "mlx5_core"


def test_a_function_already_with_vfio_stays_there(root: Path, kernel: list[tuple[str, str]]) -> None:
    folder = function(root, NIC, 7, driver="vfio-pci")
    (folder / "vfio-dev/vfio0").mkdir(parents=True)
    with taken((Passthrough(NIC),), root):
        pass
    assert kernel == []


def test_group_vfio_hands_over_no_descriptor(root: Path, kernel: list[tuple[str, str]]) -> None:
    function(root, NIC, 7)
    with taken((Passthrough(NIC, GROUP),), root) as fds:
        assert fds == ()


def test_a_neighbour_in_the_group_that_the_host_uses_is_named(root: Path) -> None:
    function(root, NIC, 7)
    function(root, OTHER, 7)
    with pytest.raises(PassthroughImpossible, match=f"in one IOMMU group with {OTHER}, which the host uses"):
        check_groups((Passthrough(NIC),), root)
    assert len(check_groups((Passthrough(NIC), Passthrough(OTHER)), root)) == 2


def test_a_bridge_in_the_group_does_no_harm(root: Path) -> None:
    function(root, NIC, 7)
    function(root, BRIDGE, 7, kind="0x060400", driver="pcieport")
    assert check_groups((Passthrough(NIC),), root)[0].group == (BRIDGE,)


def test_no_device_and_no_iommu_are_told_apart(root: Path) -> None:
    with pytest.raises(PassthroughImpossible, match="no such PCI device"):
        check_groups((Passthrough(NIC),), root)
    (function(root, NIC, 7) / "iommu_group").unlink()
    with pytest.raises(PassthroughImpossible, match="no IOMMU guards it"):
        check_groups((Passthrough(NIC),), root)


def test_a_plan_names_what_is_missing_and_what_is_far(root: Path) -> None:
    config = web_1()._replace(passthrough=(Passthrough(NIC),))
    missing, _ = passthrough_findings(config, Placement(), root)
    assert [item.id for item in missing] == ["passthrough.impossible"]
    function(root, NIC, 7)
    assert passthrough_findings(config, Placement(mems="1"), root) == ((), ())
    _, doubts = passthrough_findings(config, Placement(mems="0"), root)
    assert [(item.id, item.text) for item in doubts] == [
        ("passthrough.far", f"passthrough: {NIC} is on node 1, memory comes from node 0: slower DMA")
    ]
