"""What a VM may have of the storage options: carried out, warned about, or refused with the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from launcher.core.confinement import confinement
from launcher.core.confinement_settings import IsolationSettings
from launcher.core.facts import QemuFacts
from launcher.core.helper_confinement import storage_confinement
from launcher.core.plan import LaunchPlan, make_plan
from launcher.core.qemu_features import NO_QEMU
from launcher.core.storage import Backing, Endpoint, IscsiSource, NbdSource, NfsSource, RbdSource, Replicas
from launcher.core.storage_rules import refuse_moving
from launcher.core.vm import Disk, VmConfig
from launcher.errors import PlanRefused
from policy.vocab import Platform, ResourcePath
from tests.fakes.vm_files import GENERIC, around, qemu, web_1

KEY = ResourcePath.parse("a/b/c")
ALL = frozenset({"qemu-storage-daemon", "qemu-img", "rbd", "iscsi", "nfs"})
NBD = NbdSource(Endpoint(host="store", port=10809), "web")
RBD = RbdSource("vms", "web", conf="/etc/ceph/ceph.conf")
CONFIDENTIAL = [Platform.SEV_SNP, Platform.EMULATED_SNP]


def plan(*disks: Disk, platform: Platform = Platform.SEV_SNP, tools: frozenset[str] = ALL) -> LaunchPlan:
    config: VmConfig = web_1(platform.value)._replace(disks=disks)
    facts = QemuFacts(*qemu()[:5], extras=tools)
    return make_plan(config, around(qemu=facts))


def ordinary(*disks: Disk) -> LaunchPlan:
    config = web_1()._replace(platform=Platform.NONE, disks=disks, attestation=None)
    return make_plan(config, around(qemu=QemuFacts(*qemu()[:5], extras=ALL)))


REFUSED: list[tuple[Disk, str]] = [
    (Disk("/d", "d", format="luks", key_file="/k"), "QEMU would hold the key on the host"),
    (Disk("/d", "d", cache="unsafe"), "ignores the guest's flushes"),
]


@pytest.mark.parametrize("platform", CONFIDENTIAL)
@pytest.mark.parametrize(("disk", "reason"), REFUSED)
def test_a_confidential_vm_is_refused_what_betrays_it_and_an_ordinary_one_gets_it(
    platform: Platform, disk: Disk, reason: str
) -> None:
    with pytest.raises(PlanRefused, match=re.escape(reason)):
        plan(disk, platform=platform)
    assert ordinary(disk).options


def test_unsafe_caching_is_given_to_who_asks_twice_with_a_warning() -> None:
    made = plan(Disk("/d", "d", cache="unsafe", allow_unsafe=True))
    assert any("cache unsafe" in item.text for item in made.warnings)
    node = next(json.loads(item) for item in made.options if '"node0"' in item)
    assert node["cache"] == {"no-flush": True} and node["file"]["cache"] == {"no-flush": True}


@pytest.mark.parametrize("bus", ["scsi", "nvme", "sata", "ide"])
def test_an_encrypted_disk_is_only_found_on_virtio(bus: str) -> None:
    with pytest.raises(PlanRefused, match="virtio-blk serial"):
        plan(Disk("/d", "d", KEY, bus=bus))


@pytest.mark.parametrize("bus", ["nvme", "sata", "ide"])
def test_an_emulated_device_is_warned_about_in_a_confidential_vm_only(bus: str) -> None:
    disk = Disk("/d", "d", bus=bus)
    assert any("encryption-aware" in item.text for item in plan(disk).warnings)
    assert not any("encryption-aware" in item.text for item in ordinary(disk).warnings)


@pytest.mark.parametrize(("bus", "ports"), [("sata", 6), ("ide", 4)])
def test_more_disks_than_ports_are_refused(bus: str, ports: int) -> None:
    some = [Disk(f"/d{n}", f"d{n}", bus=bus) for n in range(ports + 1)]
    assert ordinary(*some[:-1]).options
    with pytest.raises(PlanRefused, match=f"has {ports} ports"):
        ordinary(*some)


def test_an_rbd_snapshot_is_read_only() -> None:
    old = RBD._replace(snapshot="monday")
    assert ordinary(Disk("", "d", network=old, readonly=True)).storage_options
    with pytest.raises(PlanRefused, match="can only be read"):
        ordinary(Disk("", "d", network=old))


def test_a_td_that_boots_from_a_network_disk_cannot_be_measured() -> None:
    config = web_1("tdx")
    config = config._replace(
        boot=config.boot._replace(kernel=None, initrd=None, cmdline=""), disks=(Disk("", "d", network=NBD),),
        attestation=None,
    )  # fmt: skip
    with pytest.raises(PlanRefused, match="measured from its bytes"):
        make_plan(config, around(firmware=GENERIC))


@pytest.mark.parametrize(
    ("source", "warned"),
    [
        (NBD, True),
        (NBD._replace(tls="/tls"), False),
        (NbdSource(Endpoint(path="/s")), False),
        (IscsiSource(Endpoint(host="h", port=1), "iqn.a"), True),
        (NfsSource("h", "/f"), True),
        (RBD, False),
    ],
)
def test_a_source_without_protection_on_the_way_is_warned_about(
    source: NbdSource | IscsiSource | NfsSource | RbdSource, warned: bool
) -> None:
    texts = [item.text for item in plan(Disk("", "d", KEY, network=source)).warnings]
    assert any("rolled back" in text for text in texts) is warned


@pytest.mark.parametrize(
    ("missing", "blocked"), [(set(), []), ({"rbd"}, ["storage.rbd"]), ({"qemu-storage-daemon"}, ["storage.qemu-storage-daemon"])]
)  # fmt: skip
def test_what_network_disks_need_is_a_finding_that_blocks(missing: set[str], blocked: list[str]) -> None:
    made = plan(Disk("", "d", KEY, network=RBD), tools=ALL - missing)
    assert [item.id for item in made.blockers if item.id.startswith("storage")] == blocked
    assert [item.id for item in plan(Disk("/d", "d", KEY), tools=frozenset()).blockers] == []


def secrets_of(words: tuple[str, ...]) -> bool:
    text = " ".join(words)
    return any(word in text for word in ("password", "key-0-0", "tls-", "10809", "ceph", "iqn."))


@pytest.mark.parametrize(
    "source",
    [
        NBD._replace(tls="/tls"),
        RbdSource("p", "i", monitors=(Endpoint(host="m", port=6789),), key_file="/k"),
        IscsiSource(Endpoint(host="h", port=3260), "iqn.a", 0, None, "u", "/pw"),
        NfsSource("h", "/f"),
    ],
)
def test_qemu_itself_holds_nothing_of_a_network_disk(
    source: NbdSource | RbdSource | IscsiSource | NfsSource,
) -> None:
    made = ordinary(Disk("", "d", network=source))
    assert not secrets_of(made.options)
    node = next(json.loads(item) for item in made.options if '"node0"' in item)
    assert node["file"] == {"driver": "nbd", "server": {"type": "unix", "path": "storage/nbd.sock"}, "export": "0-0"}
    assert made.storage_argv[0] == "qemu-storage-daemon"
    exports = [json.loads(item) for item in made.storage_options if '"export-0-0"' in item]
    assert exports[0]["writable"] is True
    box = confinement(IsolationSettings(), made.spec, made.qemu)
    assert not any(path in ("/k", "/pw", "/tls/ca-cert.pem", "") for path, _kind in (*box.paths, *box.optional))


def test_the_daemons_jail_lets_through_what_its_servers_need_and_no_more() -> None:
    def box(*sources: NbdSource | RbdSource | IscsiSource | NfsSource) -> object:
        spec = ordinary(*(Disk("", f"d{n}", network=source) for n, source in enumerate(sources))).spec
        return storage_confinement(IsolationSettings(), spec, qemu())

    unix = box(NbdSource(Endpoint(path="/run/x")))
    assert "net" in unix.namespaces and not unix.tcp and ("/run/x", "socket") in unix.paths  # type: ignore[attr-defined]
    inet = box(NBD, IscsiSource(Endpoint(host="h", port=3260), "iqn.a"))
    assert inet.connect == (3260, 10809) and "net" not in inet.namespaces  # type: ignore[attr-defined]
    assert box(NBD, RBD).connect is None  # type: ignore[attr-defined]  # a cluster names its own ports
    assert not any(kind == "write" or path == "/dev/kvm" for path, kind in inet.paths)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        (Disk("", "d", network=NBD, format="qcow2"), "its tables would be read here"),
        (Disk("/a", "d", replicas=Replicas((Backing("", NBD, "qcow2"),), 1)), "its tables would be read here"),
        (Disk("", "d", network=RBD), "what librbd keeps here"),
        (Disk("", "d", network=RBD, cache="none"), ""),
        (Disk("", "d", network=NBD), ""),
        (Disk("/a", "d", format="qcow2"), ""),
    ],
)
def test_a_vm_that_arrives_running_has_no_disk_of_which_something_is_kept(disk: Disk, reason: str) -> None:
    if not reason:
        refuse_moving((disk,))
        return
    with pytest.raises(PlanRefused, match=reason):
        refuse_moving((disk,))


def test_copies_are_written_to_all_and_every_node_is_there_before_it_is_named() -> None:
    copies = (Backing("/b", None, "qcow2"), Backing("", NBD))
    made = ordinary(Disk("/a", "d", replicas=Replicas(copies, 2)))
    seen: set[str] = set()
    for node in [json.loads(item) for item in made.options if item.startswith('{"driver"')]:
        names = node.get("children", []) + ([node["file"]] if isinstance(node.get("file"), str) else [])
        assert set(names) <= seen
        seen.add(node["node-name"])
    quorum = next(json.loads(item) for item in made.options if '"quorum"' in item)
    assert (quorum["children"], quorum["vote-threshold"]) == (["node0", "node0-1", "node0-2"], 2)
    assert any("drive=quorum0" in item for item in made.options)
    assert '"export-0-2"' in " ".join(made.storage_options)


@pytest.mark.parametrize(
    ("path", "driver"), [("/dev/mapper/fast", "host_device"), ("/dev/shm/a.img", "file"), ("/srv/a.img", "file")]
)
def test_a_block_device_is_opened_as_one(path: str, driver: str) -> None:
    made = ordinary(Disk(path, "d"))
    node = next(json.loads(item) for item in made.options if '"node0"' in item)
    assert node["file"]["driver"] == driver


@pytest.mark.parametrize(
    ("cache", "direct", "device"),
    [("writeback", False, False), ("none", True, False), ("writethrough", False, True), ("directsync", True, True)],
)
def test_cache_modes_are_the_page_cache_below_and_the_write_cache_above(cache: str, direct: bool, device: bool) -> None:
    words = ordinary(Disk("/d", "d", cache=cache)).options
    node = next(json.loads(item) for item in words if '"node0"' in item)
    assert (node["file"].get("cache") == {"direct": True}) is direct
    assert any("write-cache=off" in item for item in words if item.startswith("virtio-blk")) is device


def test_the_plan_of_a_daemon_from_the_cache_goes_through_the_same_loader() -> None:
    words = ("/t/ld.so", "--library-path", "/t/lib", "/t/usr/bin/qemu-system-x86_64", "-L", "/t/share")
    facts = QemuFacts(words, (), (11, 1), "cache", NO_QEMU)
    assert facts.program("qemu-img") == ("/t/ld.so", "--library-path", "/t/lib", "/t/usr/bin/qemu-img")
    check: Callable[[str], tuple[str, ...]] = QemuFacts(
        ("/usr/bin/qemu-system-x86_64",), (), (11,), "system", NO_QEMU
    ).program
    assert check("qemu-img") == ("/usr/bin/qemu-img",)
