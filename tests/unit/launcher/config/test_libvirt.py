"""``cvm import``: what a libvirt domain becomes, and what it says about the rest."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.cli import main
from launcher.config.libvirt import import_domain
from launcher.config.vm_toml import parse_vm
from launcher.config.xml import MAX_DEPTH, DomainMalformed, parse_xml
from launcher.core.hardware import Share
from policy.vocab import Platform

SEED = Path(__file__).parents[3] / "fuzz/corpus/libvirt/snp.xml"


def left(data: bytes) -> dict[str, str]:
    return dict(import_domain(data).left)


def test_a_domain_of_sev_snp_becomes_a_vm_file() -> None:
    found = import_domain(SEED.read_bytes())
    config = parse_vm(found.toml.encode(), "web-1.toml")
    assert (config.name, config.platform, config.memory) == ("web-1", Platform.SEV_SNP, 4 << 30)
    assert (config.cpu.vcpus, config.cpu.model) == (4, "EPYC-Milan")
    assert (config.boot.firmware, config.boot.cmdline) == ("/fw/OVMF.amdsev.fd", 'console=ttyS0 "x=1"')
    assert config.snp.host_data == bytes(31) + b"\x01"
    assert config.snp.smt is True
    assert [disk.path for disk in config.disks] == ["/d/a.img", "/d/b.qcow2"]
    assert config.net is not None


def test_everything_that_is_not_carried_over_is_named_with_its_reason() -> None:
    found = left(SEED.read_bytes())
    assert set(found) == {
        "name", "vcpu@placement", "cpu/feature", "devices/interface[3]",
        "devices/graphics", "devices/memballoon", "uuid",
    }  # fmt: skip
    assert "private memory" in found["devices/memballoon"]


def net(interface: str) -> tuple[dict[str, object], set[str]]:
    """What the interface becomes, and the paths of what is left of it."""
    text = f"<domain><name>a</name><memory unit='GiB'>1</memory><devices>{interface}</devices></domain>"
    found = import_domain(text.encode())
    table = tomllib.loads(found.toml)["net"][0]
    parse_vm((found.toml + '[boot]\nkernel = "/k"\n').encode(), "a.toml")
    return table, {item.where.removeprefix("devices/interface[0]") for item in found.left} - {"vcpu", "cpu"}


def test_every_kind_of_interface_keeps_what_it_says() -> None:
    bridge = (
        "<interface type='bridge'><source bridge='br0'/><mac address='52:54:00:00:00:0A'/><mtu size='9000'/>"
        "<driver queues='4'/><bandwidth><inbound average='12500' burst='128'/><outbound average='1250' peak='9'/>"
        "</bandwidth></interface>"
    )
    assert net(bridge) == (
        {"kind": "bridge", "bridge": "br0", "mac": "52:54:00:00:00:0a", "mtu": 9000, "queues": 4,
         "rx_rate": "102400kbit", "rx_burst": "128KiB", "tx_rate": "10240kbit"},
        {"/bandwidth/outbound@peak"},
    )  # fmt: skip
    assert net("<interface type='direct'><source dev='eth0' mode='bridge'/><model type='e1000e'/></interface>") == (
        {"kind": "macvtap", "interface": "eth0", "model": "e1000e"}, set(),
    )  # fmt: skip
    assert net("<interface type='ethernet'><target dev='tap0'/></interface>") == (
        {"kind": "tap", "interface": "tap0"}, set(),
    )  # fmt: skip
    passt = (
        "<interface type='user'><backend type='passt'/><portForward proto='tcp' address='127.0.0.1'>"
        "<range start='2222' to='22'/><range start='1' end='9'/></portForward></interface>"
    )
    assert net(passt) == (
        {"kind": "user", "backend": "passt", "forward": ["tcp:127.0.0.1:2222-:22"]}, {"/portForward"},
    )  # fmt: skip


def test_an_interface_that_cannot_be_carried_over_becomes_a_user_network_and_is_named() -> None:
    for kind in ("network", "vhostuser", "bridge"):
        assert net(f"<interface type='{kind}'/>") == ({"kind": "user"}, {""})
    assert net("<interface type='user'><bandwidth><inbound average='100'/></bandwidth><vlan/></interface>") == (
        {"kind": "user"}, {"/bandwidth/inbound", "/vlan"},
    )  # fmt: skip
    assert net("<interface type='user'><model type='rtl8139'/><mtu size='1'/></interface>") == (
        {"kind": "user"}, {"/model", "/mtu"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("elements", "security", "table", "named"),
    [
        ("", "", {"on_reboot": "in-place"}, set()),
        ("", "<launchSecurity type='sev-snp'/>", {"on_reboot": "relaunch"}, set()),
        ("<on_reboot>destroy</on_reboot>", "", {}, set()),
        ("<on_crash>restart</on_crash>", "", {"on_reboot": "in-place", "restart": "on-failure"}, set()),
        (
            "<on_crash>restart</on_crash><on_poweroff>restart</on_poweroff>",
            "",
            {"on_reboot": "in-place", "restart": "always"},
            set(),
        ),
        ("<on_crash>coredump-destroy</on_crash>", "", {"on_reboot": "in-place"}, {"on_crash"}),
        ("<on_poweroff>preserve</on_poweroff>", "", {"on_reboot": "in-place"}, {"on_poweroff"}),
    ],
)
def test_how_a_domain_ends_is_how_the_vm_does(
    elements: str, security: str, table: dict[str, object], named: set[str]
) -> None:
    found = import_domain(f"<domain><name>a</name>{elements}{security}</domain>".encode())
    assert tomllib.loads(found.toml).get("lifecycle", {}) == table
    assert {item.where for item in found.left} & {"on_poweroff", "on_reboot", "on_crash"} == named


def test_a_vsock_device_keeps_its_address() -> None:
    text = "<domain><name>a</name><devices><vsock><cid auto='no' address='42'/></vsock></devices></domain>"
    assert tomllib.loads(import_domain(text.encode()).toml)["vsock"] == {"cid": 42}
    assert tomllib.loads(import_domain(text.replace("no", "yes").encode()).toml)["vsock"] == {}


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><domain><name>&b;</name></domain>',
        '<!DOCTYPE d SYSTEM "file:///etc/passwd"><domain/>',
        '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><domain>&x;</domain>',
        '<!DOCTYPE d [<!ENTITY % x SYSTEM "http://127.0.0.1/"> %x;]><domain/>',
    ],
)
def test_declarations_are_refused_before_anything_is_expanded(text: str) -> None:
    with pytest.raises(DomainMalformed, match="declares a document type or an entity"):
        parse_xml(text.encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<domain>",
        b"<network/>",
        b"\xff\xfe<",
        b'<?xml version="1.0" encoding="nonsense"?><domain/>',
        b"<domain>" + b"<a>" * MAX_DEPTH,
        b"<domain>" + b"<a/>" * 5000 + b"</domain>",
        b"<domain>" + b" " * (1 << 20) + b"</domain>",
    ],
)
def test_what_is_no_domain_is_refused(data: bytes) -> None:
    with pytest.raises(DomainMalformed):
        import_domain(data)


def test_a_policy_bit_without_a_name_is_reported() -> None:
    found = import_domain(
        b'<domain><launchSecurity type="sev-snp"><policy>0x80000000b0133</policy></launchSecurity></domain>'
    )
    assert "0x8000000000000" in dict(found.left)["launchSecurity/policy"]
    assert 'abi_min = "1.51"' in found.toml
    assert "debug = true" in found.toml


@pytest.mark.parametrize(("attribute", "wanted"), [("vcek='no'", True), ("vcek='yes'", False), ("", False)])
def test_a_domain_whose_reports_the_vlek_alone_signs_stays_so(attribute: str, wanted: bool) -> None:
    found = import_domain(f"<domain><launchSecurity type='sev-snp' {attribute}/></domain>".encode())
    assert ("vcek_disabled = true" in found.toml) is wanted


def test_a_field_of_the_wrong_length_is_not_carried_over() -> None:
    assert "launchSecurity/mrOwner" in left(
        b'<domain><launchSecurity type="tdx"><mrOwner>AAAA</mrOwner></launchSecurity></domain>'
    )


@given(st.text(), st.text())
def test_no_text_escapes_from_its_string(path: str, line: str) -> None:
    from xml.sax.saxutils import escape, quoteattr

    text = f"<domain><os><kernel>{escape(path)}</kernel><cmdline>{escape(line)}</cmdline></os><devices><disk><source "
    data = f"{text}file={quoteattr(path)}/></disk></devices></domain>".encode("utf-8", "surrogatepass")
    try:
        found = import_domain(data)
    except DomainMalformed:
        return  # characters XML does not have
    import tomllib

    assert set(tomllib.loads(found.toml)) <= {"schema", "platform", "name", "memory", "boot", "disk", "lifecycle"}


def test_the_verb_prints_the_file_and_lists_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(SEED)]) == 0
    out, err = capsys.readouterr()
    assert parse_vm(out.encode(), "x").name == "web-1"
    assert "not carried over: devices/graphics" in err
    assert main(["import", str(SEED), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lacks"] == []
    assert main(["import", "/dev/null"]) == 5


def _tuned(inside: str, devices: str = "") -> bytes:
    head = "<domain><name>t</name><memory unit='GiB'>2</memory><vcpu>2</vcpu><os><kernel>/k</kernel></os>"
    return f"{head}{inside}<devices>{devices}</devices></domain>".encode()


def test_pins_nodes_huge_pages_devices_and_weights_are_carried_over() -> None:
    found = import_domain(
        _tuned(
            "<cputune><vcpupin vcpu='0' cpuset='2'/><vcpupin vcpu='1' cpuset='3,7'/><emulatorpin cpuset='0-1'/>"
            "<iothreadpin iothread='1' cpuset='0'/></cputune><numatune><memory mode='strict' nodeset='1'/></numatune>"
            "<memoryBacking><hugepages><page size='1' unit='G'/></hugepages></memoryBacking>"
            "<blkiotune><weight>300</weight></blkiotune>",
            "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
            "<address domain='0x0000' bus='0x41' slot='0x00' function='0x1'/></source></hostdev>"
            "<memballoon model='virtio' freePageReporting='on'/>"
            "<filesystem type='mount'><driver type='virtiofs'/><source dir='/srv/a b'/><target dir='work'/></filesystem>",
        )
    )
    config = parse_vm(found.toml.encode(), "t.toml")
    assert found.left == ()
    assert (config.placement.vcpus, config.placement.emulator, config.placement.io) == (("2", "3,7"), "0-1", "0")
    assert (config.placement.mems, config.ram.huge_pages, config.limits.io_weight) == ("1", 1 << 30, 300)
    assert config.ram.balloon and config.ram.free_page_reporting
    assert [item.address for item in config.passthrough] == ["0000:41:00.1"]
    assert config.shares == (Share("/srv/a b", "work", readonly=False),)


@pytest.mark.parametrize(
    ("inside", "devices", "where"),
    [
        ("<cputune><vcpupin vcpu='0' cpuset='2'/></cputune>", "", "cputune/vcpupin"),
        ("<cputune><vcpupin vcpu='0' cpuset='0-3,^2'/></cputune>", "", "cputune/vcpupin"),
        ("<cputune><vcpupin vcpu='9' cpuset='1'/></cputune>", "", "cputune/vcpupin"),
        ("<cputune><quota>1000</quota></cputune>", "", "cputune/quota"),
        ("<numatune><memory mode='preferred' nodeset='1'/></numatune>", "", "numatune/memory"),
        (
            "<memoryBacking><hugepages><page size='4' unit='K'/></hugepages></memoryBacking>",
            "",
            "memoryBacking/hugepages",
        ),
        ("<memoryBacking><locked/></memoryBacking>", "", "memoryBacking/locked"),
        ("<blkiotune><device/></blkiotune>", "", "blkiotune/device"),
        ("", "<hostdev type='usb'/>", "devices/hostdev"),
        ("", "<hostdev type='pci'><source><address bus='0x100'/></source></hostdev>", "devices/hostdev"),
        ("", "<filesystem><source dir='/a'/><target dir='a'/></filesystem>", "devices/filesystem"),
        (
            "",
            "<filesystem><driver type='virtiofs'/><source dir='/a'/><target dir='a,b'/></filesystem>",
            "devices/filesystem",
        ),
    ],
)
def test_what_cannot_be_carried_over_is_named(inside: str, devices: str, where: str) -> None:
    found = import_domain(_tuned(inside, devices))
    assert where in dict(found.left)
    parse_vm(found.toml.encode(), "t.toml")


def test_huge_pages_that_memory_is_no_multiple_of_are_left() -> None:
    odd = _tuned("<memoryBacking><hugepages/></memoryBacking>").replace(b"'GiB'>2<", b"'MiB'>129<")
    assert "memoryBacking/hugepages" in dict(import_domain(odd).left)


def test_a_confidential_domain_keeps_its_placement_and_loses_what_would_be_refused() -> None:
    inside = "<launchSecurity type='tdx'/><numatune><memory nodeset='0'/></numatune><memoryBacking><hugepages/></memoryBacking>"
    found = import_domain(_tuned(inside, "<memballoon model='virtio'/>"))
    config = parse_vm(found.toml.encode(), "t.toml")
    assert config.placement.mems == "0" and config.ram.huge_pages == 0 and not config.ram.balloon
    assert {"memoryBacking/hugepages", "devices/memballoon"} <= set(dict(found.left))
