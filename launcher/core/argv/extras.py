"""Devices only some VMs have: balloon, memory that grows, entropy, tablet, screen, shared folders, and functions of the
host's PCI bus.

They come last, so that nothing else changes its slot. Source: QEMU 11.1 "VFIO device assignment", ``qom.json`` iommufd.
"""

from __future__ import annotations

from launcher.core.argv.memory import growing_device
from launcher.core.argv.words import json_value
from launcher.core.hardware import FIRST_DEVICE_FD, FIRST_SHARE_FD, GROUP, IOMMU_FD, IOMMUFD
from launcher.core.spec import VmSpec

_VIRTIO = "disable-legacy=on,iommu_platform=on"


def extras(spec: VmSpec) -> tuple[str, ...]:
    """Options of everything the VM file adds."""
    options: list[str] = []
    if spec.ram.has_balloon:
        reporting = ",free-page-reporting=on" if spec.ram.free_page_reporting else ""
        options += ["-device", f"virtio-balloon-pci,id=balloon0{reporting},{_VIRTIO}"]
    options += growing_device(spec)
    if spec.devices.rng:
        options += ["-object", json_value(qom_type="rng-builtin", id="rng0")]
        options += ["-device", f"virtio-rng-pci,id=entropy0,rng=rng0,{_VIRTIO}"]
    if spec.devices.usb_tablet:
        options += ["-device", "qemu-xhci,id=usb0", "-device", "usb-tablet,id=tablet0,bus=usb0.0"]
    if spec.devices.video == "std":
        options += ["-device", "VGA,id=video0"]
    for number, item in enumerate(spec.shares):
        options += ["-chardev", f"socket,id=share{number},fd={FIRST_SHARE_FD + number}"]
        # no iommu_platform: the daemon takes the guest's addresses for memory's own
        options += ["-device", f"vhost-user-fs-pci,id=fs{number},chardev=share{number},tag={item.tag}"]
    return (*options, *_passed(spec))


def _passed(spec: VmSpec) -> tuple[str, ...]:
    options: list[str] = []
    if any(item.backend == IOMMUFD for item in spec.passthrough):
        options += ["-object", json_value(qom_type="iommufd", id="iommufd0", fd=str(IOMMU_FD))]
    for number, item in enumerate(spec.passthrough):
        token = "" if item.vf_token is None else f",vf-token={item.vf_token}"
        where = f"host={item.address}" if item.backend == GROUP else f"fd={FIRST_DEVICE_FD + number},iommufd=iommufd0"
        options += ["-device", f"vfio-pci,id=host{number},{where}{token}"]
    return tuple(options)
