"""Disks of libvirt domains become disks of a VM file that is valid, and what is lost is said."""

from __future__ import annotations

import pytest

from launcher.config.libvirt import import_domain
from launcher.config.vm_toml import parse_vm
from launcher.core.storage import Endpoint, IscsiSource, Limit, NbdSource, Network, NfsSource, RbdSource, Throttle
from launcher.core.vm import VmConfig

DOMAIN = """<domain type='kvm'><name>web</name><memory unit='MiB'>512</memory>
<os><type>hvm</type><kernel>/k</kernel></os><devices>{}</devices></domain>"""


def imported(*disks: str) -> tuple[VmConfig, dict[str, str]]:
    found = import_domain(
        DOMAIN.format("".join(f"<disk type='file' device='disk'>{text}</disk>" for text in disks)).encode()
    )
    return parse_vm(found.toml.encode(), "web.toml"), {item.where: item.why for item in found.left}


@pytest.mark.parametrize(
    ("source", "network"),
    [
        (
            "<source protocol='nbd' name='web'><host name='store' port='10810'/></source>",
            NbdSource(Endpoint(host="store", port=10810), "web"),
        ),
        (
            "<source protocol='nbd'><host transport='unix' socket='/run/n'/></source>",
            NbdSource(Endpoint(path="/run/n")),
        ),
        (
            "<source protocol='rbd' name='vms/web'><host name='m1' port='6789'/><auth username='cvm'>"
            "<secret type='ceph' uuid='x'/></auth></source>",
            RbdSource("vms", "web", user="cvm", conf="/etc/ceph/ceph.conf"),
        ),
        (
            "<source protocol='iscsi' name='iqn.2026-01.a:b/2'><host name='::1'/></source>",
            IscsiSource(Endpoint(host="::1", port=3260), "iqn.2026-01.a:b", 2),
        ),
        (
            "<source protocol='nfs' name='export/web.img'><host name='files'/></source>",
            NfsSource("files", "/export/web.img"),
        ),
    ],
)
def test_network_sources_are_carried_over(source: str, network: Network) -> None:
    config, _ = imported(source)
    assert config.disks[0].network == network


def test_how_a_disk_is_carried_comes_along() -> None:
    config, left = imported(
        "<source file='/a.qcow2'/><driver name='qemu' type='qcow2' cache='none' io='native' discard='ignore'"
        " iothread='1'/><target dev='vda' bus='virtio'/><serial>DATA-1</serial>",
        "<source dev='/dev/vg/b'/><target dev='sda' bus='sata'/>",
    )
    first, second = config.disks
    assert (first.path, first.format, first.cache, first.aio) == ("/a.qcow2", "qcow2", "none", "native")
    assert (first.discard, first.iothread, first.name) == (False, True, "DATA-1")
    assert (second.path, second.bus) == ("/dev/vg/b", "sata")
    assert not any(where.startswith("devices/disk") for where in left)


def test_limits_become_limits_and_a_group_one_allowance() -> None:
    tune = "<iotune><total_iops_sec>500</total_iops_sec>{}</iotune>"
    config, _ = imported(
        "<source file='/a'/>" + tune.format("<read_bytes_sec>1048577</read_bytes_sec><read_bytes_sec_max>2097152"
                                            "</read_bytes_sec_max><read_bytes_sec_max_length>9</read_bytes_sec_max_length>"),
        "<source file='/b'/>" + tune.format("<group_name>Tenant A</group_name>"),
        "<source file='/c'/>" + tune.format("<group_name>Tenant A</group_name>"),
    )  # fmt: skip
    own = config.disks[0].throttle
    assert isinstance(own, Throttle) and own.limits[0] == Limit(500)
    assert own.limits[4] == Limit((1024 + 1) << 10, 2 << 20, 9)
    assert [disk.throttle for disk in config.disks[1:]] == ["tenant-a", "tenant-a"]
    assert [item.name for item in config.throttles] == ["tenant-a"]


@pytest.mark.parametrize(
    ("disk", "where", "why"),
    [
        ("<source protocol='gluster' name='v/i'/>", "devices/disk[0]", "gluster"),
        ("<source protocol='rbd' name='image'/>", "devices/disk[0]/source", "not understood"),
        (
            "<source protocol='nbd' name='x' tls='yes'><host name='h'/></source>",
            "devices/disk[0]/source@tls",
            "certificates",
        ),
        ("<source file='/a'/><driver type='vmdk'/>", "devices/disk[0]/driver", "qemu-img convert"),
        ("<source file='/a'/><target bus='usb'/>", "devices/disk[0]/target", "became virtio"),
        ("<source file='/a'/><encryption format='luks'/>", "devices/disk[0]/encryption", "inside the guest"),
        ("<source file='/a'/><backingStore/>", "devices/disk[0]/backingStore", "whole one"),
        ("<source file='/a'/><driver io='native'/>", "devices/disk[0]/driver@io", "native needs"),
    ],
)
def test_what_cannot_be_carried_over_is_said(disk: str, where: str, why: str) -> None:
    found = import_domain(DOMAIN.format(f"<disk device='disk'>{disk}</disk>").encode())
    left = {item.where: item.why for item in found.left}
    assert why in left[where]
