"""QEMU's command line against golden files: ``CVM_GOLDEN=1 pytest tests/unit/launcher/core/test_argv.py`` renews them."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from itertools import pairwise
from pathlib import Path

import pytest

from launcher.config.vm_toml import parse_vm
from launcher.core.argv import qemu_options
from launcher.core.argv.shown import without_tee
from launcher.core.argv.words import json_value, word
from launcher.core.hardware import Passthrough, Ram
from launcher.core.lifecycle import IN_PLACE, Lifecycle
from launcher.core.network import Vsock
from launcher.core.plan import make_plan
from launcher.core.spec import LightFiles
from launcher.core.vm import Disk, SnpSettings, TdxSettings, VmConfig
from tests.fakes.vm_files import GENERIC, PLAIN, around, host, qemu, web_1

PLAIN_CONFIG = parse_vm(PLAIN.encode(), "plain.toml")


def _plain(more: str) -> VmConfig:
    return parse_vm((PLAIN + more).encode(), "plain.toml")


def _on(net: str, platform: str = "emulated-snp") -> VmConfig:
    """The plain VM with another network."""
    text = PLAIN.replace('"none"', f'"{platform}"') + f"[[net]]\n{net}\n"
    return parse_vm(text.encode(), "plain.toml")


STORAGE = b"""
[[throttle]]
name = "tenant"
iops_total = 500
bps_write = "10MiB"
[[disk]]
path = "/d/fast.qcow2"
format = "qcow2"
cache = "none"
aio = "io_uring"
iothread = true
throttle_group = "tenant"
[[disk]]
bus = "scsi"
throttle_group = "tenant"
[disk.nbd]
server = "tcp:store:10809"
export = "web"
tls = "/tls"
[[disk.replica]]
[disk.replica.rbd]
pool = "vms"
image = "web"
monitors = ["10.0.0.1:6789"]
key_file = "/keys/web"
[[disk]]
path = "/dev/mapper/cached"
cache = "directsync"
bus = "nvme"
serial = "N-1"
[disk.throttle]
iops_read = 100
iops_read_burst = 1000
iops_read_burst_seconds = 5
[[disk]]
path = "/d/sata.img"
bus = "sata"
discard = false
[[disk]]
path = "/d/ide.img"
bus = "ide"
cache = "writethrough"
"""
STORAGE_CONFIG = parse_vm(PLAIN.encode() + STORAGE, "plain.toml")
OLDER = ((9, 1), (10, 0), (10, 2))
CASES = {
    "none-storage": (STORAGE_CONFIG, around(firmware=None, host=host(kvm=False))),
    "none-storage-qemu-10.1": (STORAGE_CONFIG, around(firmware=None, host=host(kvm=False), qemu=qemu(10, 1, 0))),
    "sev-snp": (web_1(), around()),
    "sev-snp-qemu-10.1": (web_1(), around(qemu=qemu(10, 1, 0))),
    "sev-snp-vlek": (web_1()._replace(snp=SnpSettings(vcek_disabled=True)), around()),
    "sev-snp-policy": (
        web_1()._replace(snp=SnpSettings(smt=False, single_socket=True, abi_min=(1, 55), host_data=bytes(range(32)))),
        around(),
    ),
    "emulated-snp-tcg": (web_1("emulated-snp"), around(host=host(kvm=False))),
    "emulated-snp-kvm": (web_1("emulated-snp"), around(host=host())),
    "tdx": (web_1("tdx"), around(firmware=GENERIC)),
    "tdx-qemu-10.1-vsock": (
        web_1("tdx")._replace(
            tdx=TdxSettings(
                pks=True, mrconfigid=bytes(range(48)), mrowner=b"\1" * 48, mrownerconfig=b"\2" * 48,
                quote_socket="vsock:2:4050",
            )
        ),
        around(firmware=GENERIC, qemu=qemu(10, 1, 0)),
    ),
    "emulated-tdx-tcg": (web_1("emulated-tdx"), around(firmware=GENERIC, host=host(kvm=False))),
    "none-kernel": (PLAIN_CONFIG, around(firmware=None, host=host(kvm=False))),
    "none-light": (
        PLAIN_CONFIG._replace(light=True),
        around(firmware=None, host=host(kvm=False))._replace(light=LightFiles("/q/qboot.rom", "/c/k", "/c/i")),
    ),
    "none-shape-and-memory": (
        _plain(
            '[cpu]\ncount = 8\nmodel = "max"\nsockets = 2\nthreads = 2\nfeatures = ["-avx512f", "+x2apic"]\n'
            '[ram]\nballoon = true\nfree_page_reporting = true\nmerge = true\nmax = "2GiB"\nslots = 3\n'
            '[[numa]]\ncpus = "0-3"\nmemory = "256MiB"\nhost = 1\n[[numa]]\ncpus = "4-7"\nmemory = "256MiB"\n'
            '[devices]\nrng = true\nusb_tablet = true\nvideo = "std"\n'
        ),
        around(firmware=None, host=host(kvm=False)),
    ),
    "none-bus-locks-silent": (
        _plain('[limits]\nbus_locks = 50\n[guest]\nconsole = false\nswiotlb = "256MiB"\n'), around(firmware=None)
    ),
    "none-shares": (
        _plain('[[share]]\npath = "/a b"\ntag = "a"\n[[share]]\npath = "c"\ntag = "c"\nreadonly = false\n'),
        around(firmware=None),
    ),
    "none-tpm": (_plain("[devices]\ntpm = true\n"), around(firmware=None)),
    "none-huge-pages": (_plain('[ram]\nhuge_pages = "2MiB"\novercommit = false\n'), around(firmware=None)),
    "sev-snp-passthrough": (
        web_1()._replace(
            passthrough=(
                Passthrough("0000:41:00.0"),
                Passthrough("0000:41:00.1", vf_token="00112233-4455-6677-8899-aabbccddeeff"),
            )
        ),
        around(),
    ),
    "sev-snp-double-memory": (
        web_1()._replace(ram=Ram(huge_pages=1 << 30, allow_double_memory=True)), around(qemu=qemu(10, 2, 0))
    ),
    "none-group-vfio": (
        _plain('[isolation]\nmode = "off"\n[[passthrough]]\naddress = "0000:01:00.0"\nbackend = "group"\n'),
        around(firmware=None),
    ),
    "net-passt": (_on('kind = "user"\nbackend = "passt"\nforward = ["tcp:127.0.0.1:2222-:22"]'), around()),
    "net-bridge-queues": (
        _on('kind = "bridge"\nbridge = "br0"\nqueues = 4\nmtu = 9000\nmac = "02:00:00:00:00:01"\nrx_rate = "1Gbit"'),
        around(),
    ),
    "net-tap-e1000e": (_on('kind = "tap"\ninterface = "tap0"\nmodel = "e1000e"', "none"), around(firmware=None)),
    **{f"sev-snp-qemu-{major}.{minor}": (web_1(), around(qemu=qemu(major, minor, 0))) for major, minor in OLDER},
    **{
        f"none-qemu-{major}.{minor}": (STORAGE_CONFIG, around(firmware=None, qemu=qemu(major, minor, 0)))
        for major, minor in OLDER
    },
    "tdx-qemu-10.2": (web_1("tdx"), around(firmware=GENERIC, qemu=qemu(10, 2, 0))),
    "sev-snp-in-place": (web_1()._replace(lifecycle=Lifecycle(on_reboot=IN_PLACE)), around()),
    "exec": (web_1("emulated-snp")._replace(operators=("A" * 43,)), around()),
    "vsock": (PLAIN_CONFIG._replace(vsock=Vsock()), around(firmware=None)),
    "none-disk": (
        PLAIN_CONFIG._replace(boot=PLAIN_CONFIG.boot._replace(kernel=None), disks=(Disk("/d,1.img", "disk0", None, True),)),
        around(firmware=None),
    ),
}  # fmt: skip


def options(name: str) -> tuple[str, ...]:
    config, surroundings = CASES[name]
    return make_plan(config, surroundings).options


@pytest.mark.parametrize("name", CASES)
def test_the_command_line_is_the_golden_one(name: str, repo: Path) -> None:
    golden = repo / "tests" / "golden" / "argv" / f"{name}.args"
    config, surroundings = CASES[name]
    plan = make_plan(config, surroundings)
    daemon = ("", "qemu-storage-daemon", *plan.storage_options) if plan.storage_options else ()
    text = "\n".join((*plan.options, *daemon)) + "\n"
    if os.environ.get("CVM_GOLDEN"):
        golden.write_text(text)
    assert golden.read_text() == text


@pytest.mark.parametrize("name", CASES)
def test_every_command_line_keeps_qemu_in_bounds(name: str) -> None:
    given = options(name)
    assert {"-nodefaults", "-no-user-config"} <= set(given)
    assert given[given.index("-display") + 1] == "none"
    assert (
        given[given.index("-sandbox") + 1] == "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
    )
    assert "reboot=shutdown" in given[given.index("-action") + 1]


@pytest.mark.parametrize("name", CASES)
def test_every_virtio_device_is_modern_and_translates_its_addresses(name: str) -> None:
    devices = [item for item in options(name) if item.startswith("virtio-")]
    assert devices
    assert all("disable-legacy=on" in item and "iommu_platform=on" in item for item in devices)


def test_the_monitor_is_an_object_from_11_1_and_an_option_before() -> None:
    assert '{"qom-type":"monitor-qmp","id":"mon0","chardev":"qmp0"}' in options("sev-snp")
    assert "-mon" not in options("sev-snp")
    assert "chardev=qmp0,mode=control" in options("sev-snp-qemu-10.1")


def test_the_machine_type_has_the_version_of_the_binary() -> None:
    given = options("sev-snp-qemu-10.1")
    assert given[given.index("-machine") + 1].startswith("pc-q35-10.1,")


def test_reduced_phys_bits_is_one_whatever_the_host_says() -> None:
    guest = next(json.loads(item) for item in options("sev-snp") if "sev-snp-guest" in item)
    assert guest["reduced-phys-bits"] == 1
    assert guest["policy"] == 0x30000
    assert guest["kernel-hashes"] is True


def test_paths_with_commas_and_quotes_survive() -> None:
    config: VmConfig = PLAIN_CONFIG._replace(disks=(Disk('/a,b"c.img', "disk0"),))
    node = next(json.loads(item) for item in make_plan(config, around(firmware=None)).options if "filename" in item)
    assert node["file"]["filename"] == '/a,b"c.img'
    assert node["file"]["locking"] == "on"
    assert word("a,b") == "a,,b"
    assert json_value(a_b=1) == '{"a-b":1}'


def test_no_secret_or_state_path_stands_on_the_command_line() -> None:
    text = " ".join(options("emulated-snp-tcg"))
    assert "/state" not in text


def test_the_same_plan_gives_the_same_command_line() -> None:
    spec = make_plan(web_1(), around()).spec
    assert qemu_options(spec) == qemu_options(spec)


def test_a_td_is_described_by_one_object_with_its_attributes_in_one_number() -> None:
    guest = next(json.loads(item) for item in options("tdx-qemu-10.1-vsock") if "tdx-guest" in item)
    assert guest["attributes"] == 1 << 28 | 1 << 30
    assert guest["quote-generation-socket"] == {"type": "vsock", "cid": "2", "port": "4050"}
    assert b64decode(guest["mrconfigid"]) == bytes(range(48))
    given = options("tdx")
    assert given[given.index("-cpu") + 1] == "host"
    assert {"kernel-irqchip=split", "pic=off", "smm=off", "hpet=off"} <= set(
        given[given.index("-machine") + 1].split(",")
    )


@pytest.mark.parametrize("name", ["tdx", "tdx-qemu-10.1-vsock", "emulated-tdx-tcg"])
def test_the_probe_has_the_same_devices_and_nothing_of_the_world_behind_them(name: str) -> None:
    given, shown = options(name), without_tee(options(name))

    def of(words: tuple[str, ...], option: str) -> list[str]:
        return [value for word, value in pairwise(words) if word == option]

    assert of(shown, "-device") == of(given, "-device")
    for same in ("-smp", "-m", "-bios", "-kernel", "-initrd", "-append", "-serial"):
        assert of(shown, same) == of(given, same)
    assert all(item.startswith("null,id=") for item in of(shown, "-chardev"))
    assert all('"null-co"' in item for item in of(shown, "-blockdev"))
    assert of(shown, "-netdev") == ["user,id=net0,ipv6=off"]
    text = " ".join(shown)
    assert not any(word in text for word in ("tdx-guest", "confidential", "accel=kvm", "/disks", "hostfwd", ".sock"))
