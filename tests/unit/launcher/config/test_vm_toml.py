"""The VM file: what is accepted, and that every mistake is named with its place."""

from __future__ import annotations

import re

import pytest

from launcher.config.sizes import parse_size, show_size
from launcher.config.vm_toml import parse_vm
from launcher.core.network import Forward
from launcher.core.vm import Cpu, guest_policy
from launcher.errors import VmConfigInvalid
from policy.vocab import Platform
from tests.fakes.vm_files import PLAIN, WEB_1, web_1


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(VmConfigInvalid) as caught:
        parse_vm(text.encode(), "vm.toml")
    return caught.value.problems


def with_change(old: str, new: str, base: str = WEB_1.format(platform="sev-snp")) -> str:
    assert old in base
    return base.replace(old, new)


def test_the_example_of_the_guide_is_understood() -> None:
    config = web_1()
    assert config.platform is Platform.SEV_SNP
    assert config.memory == 4 << 30
    assert (config.cpu.vcpus, config.cpu.model) == (4, "EPYC-v4")
    assert config.disks[0].resource == "default/web-1/root"
    assert config.disks[0].name == "root"
    assert config.net is not None and config.net.forward == (Forward("tcp", "127.0.0.1", 2222, 22),)
    assert config.attestation is not None and config.attestation.service == "https://kbs.example"


def test_the_smallest_file_gets_defaults() -> None:
    config = parse_vm(PLAIN.encode(), "plain.toml")
    assert config.cpu.vcpus == 1
    assert config.boot.firmware == "auto"
    assert config.disks == ()
    assert config.net is None


def test_every_problem_is_reported_at_once_with_its_path_and_a_suggestion() -> None:
    text = (
        WEB_1.format(platform="sev-snpp")
        .replace("model =", "modle =")
        .replace("4GiB", "4Gb")
        .replace("count = 4", "count = 0")
    )
    found = problems(text)
    assert any(p.startswith("$.platform: got 'sev-snpp'") and 'did you mean "sev-snp"?' in p for p in found)
    assert '$.cpu.modle: unknown key (did you mean "model"?)' in found
    assert any(p.startswith("$.memory: got '4Gb'") for p in found)
    assert any(p.startswith("$.cpu.count: got 0, want 1 to 4096") for p in found)


def test_the_error_text_begins_every_line_with_the_file() -> None:
    with pytest.raises(VmConfigInvalid) as caught:
        parse_vm(b"schema = 2\n", "web-1.toml")
    assert all(line.startswith("web-1.toml: $.") for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("schema = 1", "schema = 2", r"\$\.schema: got 2, want 1"),
        ("schema = 1", "", r"\$\.schema: missing"),
        ('name = "web-1"', 'name = "Web 1"', r"\$\.name: got 'Web 1'"),
        ('name = "web-1"', 'name = "../up"', r"\$\.name: got '\.\./up'"),
        ('"4GiB"', '"100MiB"', r"\$\.memory: got 100MiB, want whole MiB"),
        ('"4GiB"', '"999999999999GiB"', r"\$\.memory: got '999999999999GiB'"),
        ('"4GiB"', "4", r"\$\.memory: got 4"),
        ('"EPYC-v4"', '"host"', r"\$\.cpu\.model: \"host\" makes the launch digest depend on the host"),
        ('"EPYC-v4"', '"EPYC,-sev"', r"\$\.cpu\.model: got 'EPYC,-sev'"),
        ("count = 4", "count = true", r"\$\.cpu\.count: got True"),
        ('"console=ttyS0 root', '"console=ttyS0\\nroot', r"\$\.boot\.cmdline: want printable ASCII on one line"),
        ('"console=ttyS0 root', '"cvm.service=https://evil root', r"\$\.boot\.cmdline: words that begin with cvm\."),
        ('"console=ttyS0 root', '"console=ttyS0 \\"root', r"\$\.boot\.cmdline: a double quote"),
        ('"/images/web/vmlinuz"', '""', r"\$\.boot\.kernel: got ''"),
        ('"default/web-1/root"', '"../../etc"', r"\$\.disk\[0\]\.encrypted\.resource: resource '\.\./\.\./etc'"),
        ('name = "root"', 'name = "a name"', r"\$\.disk\[0\]\.encrypted\.name: got 'a name'"),
        ('name = "root"', 'nam = "root"', r'\$\.disk\[0\]\.encrypted\.nam: unknown key \(did you mean "name"\?\)'),
        ('kind = "user"', 'kind = "carrier-pigeon"', r"\$\.net\[0\]\.kind: got 'carrier-pigeon'"),
        ("tcp:127.0.0.1:2222-:22", "tcp:127.0.0.1:0-:22", r"\$\.net\[0\]\.forward: got 'tcp:127"),
        ("tcp:127.0.0.1:2222-:22", "tcp:300.0.0.1:22-:22", r"\$\.net\[0\]\.forward"),
        ("tcp:127.0.0.1:2222-:22", "tcp:127.0.0.1:2222-:22,guestfwd=x", r"\$\.net\[0\]\.forward"),
        ("https://kbs.example", "http://kbs.example", r"\$\.attestation\.service: got 'http://kbs\.example'"),
        ("https://kbs.example", "https://kbs.example/path", r"\$\.attestation\.service"),
        ("https://kbs.example", "https://kbs.example:70000", r"\$\.attestation\.service"),
        ('ca = "kbs-ca.pem"', "", r"\$\.attestation\.ca: missing"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_path(old: str, new: str, wanted: str) -> None:
    found = problems(with_change(old, new))
    assert any(re.match(wanted, problem) for problem in found), found


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('[guest]\nrun = "relative"', "$.guest.run: got 'relative'"),
        ('[guest]\nrun = "/a/../b"', "$.guest.run: got '/a/../b'"),
        ("[guest]\npoweroff = 1", "$.guest.poweroff: got 1, want true or false"),
        ("[snp]\ndebgu = true", '$.snp.debgu: unknown key (did you mean "debug"?)'),
        ('[snp]\nhost_data = "00"', "$.snp.host_data: want 64 lower-case hexadecimal digits (32 bytes)"),
        ('[snp]\nabi_min = "1.300"', '$.snp.abi_min: want a firmware ABI version such as "1.51"'),
        ("[snp]\nguest_features = 2", "$.snp.guest_features: got 0x2"),
        ('[[net]]\nkind = "user"', "$.net: 2 networks"),
        ("[emulator]\n", "$.emulator.state: missing"),
    ],
)
def test_a_wrong_table_is_named_with_its_path(text: str, wanted: str) -> None:
    found = problems(WEB_1.format(platform="sev-snp") + text)
    assert any(problem.startswith(wanted) for problem in found), found


@pytest.mark.parametrize("pin", ["", "ab" * 31, "AB" * 32, "zz" * 32, "ab" * 33])
def test_a_pin_that_is_no_digest_is_named(pin: str) -> None:
    text = WEB_1.format(platform="sev-snp").replace("[boot]\n", f'[boot]\nfirmware_sha256 = "{pin}"\n')
    assert any(item.startswith("$.boot.firmware_sha256: got") and "want 64" in item for item in problems(text))


def test_a_td_has_the_hosts_processor_and_says_so() -> None:
    assert any("no named CPU model" in problem for problem in problems(WEB_1.format(platform="tdx")))
    assert web_1("tdx").cpu == Cpu(4, "host")


def test_a_protected_vm_needs_a_kernel() -> None:
    text = 'schema = 1\nname = "x"\nplatform = "sev-snp"\nmemory = "1GiB"\n[[disk]]\npath = "d"\n'
    assert problems(text) == ("$.boot.kernel: missing: platform sev-snp boots a measured kernel",)


def test_an_encrypted_disk_needs_somebody_to_ask_for_its_key() -> None:
    text = WEB_1.format(platform="sev-snp").partition("[attestation]")[0]
    assert problems(text) == ("$.disk[0].encrypted: needs an [attestation] table: nobody to ask for the key",)


def test_attestation_needs_a_network_and_evidence() -> None:
    text = WEB_1.format(platform="none").replace("[[net]]\nkind", "[[disk]]\npath='x'\n#").replace("forward", "#")
    found = problems(text)
    assert "$.attestation: platform none has no evidence to attest with" in found
    assert any(problem.startswith("$.attestation.service: needs a [[net]]") for problem in found)


def test_two_disks_with_one_name_or_one_file_are_refused() -> None:
    twice = '[[disk]]\npath = "/disks/web-1.img"\nencrypted = { resource = "a/b/c", name = "root" }\n'
    found = problems(WEB_1.format(platform="sev-snp") + twice)
    assert len(found) == 2
    assert found[0].startswith("$.disk[1].name: 'root' is also $.disk[0]'s")
    assert found[1].startswith("$.disk[1].path: '/disks/web-1.img' is also $.disk[0]'s")


def test_a_payload_needs_an_encrypted_disk() -> None:
    assert problems(PLAIN + '[guest]\nrun = "/run"\n') == (
        "$.guest.run: names a program on the root or the first encrypted disk, but there is neither",
    )


@pytest.mark.parametrize(
    "data", [b"\xff", b"schema = ", b"x" * ((1 << 20) + 1), b"a = 1" + b"0" * 5000, b"a=" + b"[" * 4000]
)
def test_what_is_no_toml_is_our_error(data: bytes) -> None:
    with pytest.raises(VmConfigInvalid):
        parse_vm(data, "vm.toml")


def test_the_default_guest_policy_allows_smt_and_nothing_else() -> None:
    assert guest_policy(web_1().snp) == 0x30000


def test_policy_switches_set_their_bits_and_the_abi_its_bytes() -> None:
    text = (
        WEB_1.format(platform="sev-snp") + '[snp]\nsmt = false\ndebug = true\nsingle_socket = true\nabi_min = "1.55"\n'
    )
    assert guest_policy(parse_vm(text.encode(), "x").snp) == 1 << 17 | 1 << 19 | 1 << 20 | 1 << 8 | 55


def test_sizes_are_whole_numbers_with_binary_units() -> None:
    assert parse_size("4GiB") == 4 << 30
    assert parse_size("512 MiB") == 512 << 20
    assert [parse_size(text) for text in ("4GB", "4", "-1GiB", "1.5GiB", "", "GiB", "٤GiB")] == [None] * 7
    assert show_size(4 << 30) == "4GiB"
    assert show_size(1536 << 20) == "1536MiB"
    assert show_size(1) == "1"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("debug = true", r"\$\.tdx\.debug: QEMU starts no TD"),
        ("sept_ve_disable = false", r"\$\.tdx\.sept_ve_disable: want true"),
        ('mrconfigid = "00"', r"\$\.tdx\.mrconfigid: want 96 lower-case hexadecimal digits \(48 bytes\)"),
        ('mrowner = "' + "AB" * 48 + '"', r"\$\.tdx\.mrowner: want 96"),
        ('processor_id = "00"', r"\$\.tdx\.processor_id: want 16"),
        ('quote_socket = "tcp:1"', r"\$\.tdx\.quote_socket: got 'tcp:1'"),
        ('quote_socket = "vsock:2:65536"', r"\$\.tdx\.quote_socket"),
        ("colour = 1", r"\$\.tdx\.colour"),
    ],
)
def test_a_wrong_launch_field_of_a_td_is_named(line: str, says: str) -> None:
    text = WEB_1.format(platform="emulated-tdx") + f"\n[tdx]\n{line}\n"
    assert any(re.match(says, problem) for problem in problems(text)), problems(text)


def test_a_tds_launch_fields_are_read() -> None:
    lines = [
        "pks = true",
        f'mrownerconfig = "{"0f" * 48}"',
        'quote_socket = "none"',
        'processor_id = "0102030405060708"',
    ]
    text = WEB_1.format(platform="emulated-tdx") + "\n[tdx]\n" + "\n".join(lines)
    settings = parse_vm(text.encode(), "x").tdx
    assert (settings.pks, settings.mrownerconfig, settings.quote_socket) == (True, b"\x0f" * 48, None)
    assert settings.processor_id == bytes(range(1, 9))


def test_only_an_ordinary_vm_with_a_kernel_of_its_own_can_be_light() -> None:
    assert parse_vm(PLAIN.replace("schema = 1", "schema = 1\nlight = true").encode(), "plain.toml").light
    light = WEB_1.replace("schema = 1", "schema = 1\nlight = true").replace('"auto"', '"own.fd"')
    found = problems(light.format(platform="sev-snp"))
    assert any(p.startswith("$.light: platform sev-snp measures its firmware") for p in found)
    assert any(p.startswith("$.boot.firmware: light = true brings its own") for p in found)
    no_kernel = "\n".join(line for line in PLAIN.splitlines() if not line.startswith("kernel"))
    assert any(
        p.startswith("$.boot.kernel: missing: light")
        for p in problems(f"light = true\n{no_kernel}\n[[disk]]\npath = 'd'")
    )
