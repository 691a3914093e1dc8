"""Every kind of event: its name, its words, and whether its digest proves them."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest

from attest.evidence import event_types as ev
from attest.evidence.errors import EvidenceUnsupported
from attest.evidence.event_data import DecodedEvent, best_algorithm, decode_log, read_event
from attest.evidence.eventlog import TCG2, parse_event_log
from attest.evidence.eventlog_build import NewEvent, build_event_log
from ovmf.guid import efi_guid
from tests.fakes.eventlogs import (
    END,
    IMAGE_SECURITY,
    SHIM,
    direct_boot_log,
    event,
    file_node,
    hash_list,
    image_load,
    load_option,
    named_certificate,
    tag,
    variable,
    x509_lists,
)  # fmt: skip

CERT = named_certificate("db key")
SHA = hashlib.sha256(CERT).hexdigest()


def decoded(*events: NewEvent) -> list[DecodedEvent]:
    return list(decode_log(parse_event_log(build_event_log(events))))


def one(kind: int, data: bytes, covered: bytes | None = None) -> tuple[str, str, bool]:
    (item,) = decoded(event(1, kind, data, covered))
    return item.name, item.detail, item.proven


def gpt(*names: str) -> bytes:
    header = b"EFI PART" + bytes(48) + bytes(16) + struct.pack("<QIII", 2, 128, 128, 0)
    entries = b"".join(
        bytes(32) + struct.pack("<QQQ", 34, 99, 0) + name.encode("utf-16-le").ljust(72, b"\0") for name in names
    )
    return header + struct.pack("<Q", len(names)) + entries


def shim_info(name: bytes, data: bytes) -> bytes:
    """TD_SHIM_PLATFORM_CONFIG_INFO."""
    return name.ljust(16, b"\0") + struct.pack("<I", len(data)) + data


PROVEN = [
    (ev.EV_SEPARATOR, bytes(4), None, "separator", ""),
    (ev.EV_SEPARATOR, b"\xff" * 4, None, "separator", "ffffffff"),
    (ev.EV_SEPARATOR, b"what went wrong", b"\1\0\0\0", "separator:error", ""),
    (ev.EV_EFI_ACTION, b"Exit Boot Services Invocation", None, "action:Exit Boot Services Invocation", ""),
    (ev.EV_ACTION, b"a\x1bb", None, "action:a\\x1bb", ""),
    (ev.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\1"), None, "variable:SecureBoot", "on"),
    (ev.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\0"), None, "variable:SecureBoot", "off"),
    (ev.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b""), None, "variable:SecureBoot", "absent"),
    (ev.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("PK", b""), None, "variable:PK", "empty"),
    (ev.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("dbx", hash_list(3), IMAGE_SECURITY), None, "variable:dbx", "3 SHA-256"),
    (ev.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("db", b"x"), None, "variable:db@8BE4DF61-93CA-11D2-AA0D-00E098032B8C", "78"),
    (ev.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("Other", b"\1\2"), None, "variable:Other", "0102"),
    (
        ev.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("db", x509_lists(CERT) + hash_list(2), IMAGE_SECURITY), None, "variable:db",
        f"x509 {SHA} CN=db key; 2 SHA-256",
    ),
    (ev.EV_EFI_VARIABLE_AUTHORITY, variable("SbatLevel", b"sbat,1,2\n", SHIM), None, "authority:SbatLevel", "sbat,1,2\\x0a"),
    (ev.EV_EFI_VARIABLE_AUTHORITY, variable("MokListTrusted", b"\1", SHIM), None, "authority:MokListTrusted", "01"),
    (ev.EV_EFI_VARIABLE_AUTHORITY, variable("db", bytes(16) + b"h" * 32, IMAGE_SECURITY), None, "authority:db", "SHA-256 " + "68" * 32),
    (ev.EV_EFI_VARIABLE_BOOT, variable("BootOrder", b"\1\0\0\0"), b"\1\0\0\0", "boot-order", "0001,0000"),
    (ev.EV_EFI_VARIABLE_BOOT2, variable("BootOrder", b"\1\0"), None, "boot-order", "0001"),
    (
        ev.EV_EFI_VARIABLE_BOOT2, variable("Boot0001", load_option("Disk", file_node("\\a") + END, 9, b"\1")), None,
        "boot-option:Boot0001", '"Disk" \\a, attributes 0x9, data 01',
    ),
    (ev.EV_EFI_VARIABLE_BOOT2, variable("Timeout", b"\3\0"), None, "boot-variable:Timeout", "0300"),
    (
        ev.EV_EFI_GPT_EVENT, gpt("root", ""), None, "gpt",
        "disk 00000000-0000-0000-0000-000000000000, 2 partitions: root (00000000-0000-0000-0000-000000000000, 34-99), "
        "unnamed (00000000-0000-0000-0000-000000000000, 34-99)",
    ),
    (ev.EV_IPL, b"grub_cmd: set a=1\0", b"set a=1", "ipl:grub_cmd", "set a=1"),
    (ev.EV_IPL, b"kernel_cmdline: /k ro\0", b"/k ro", "ipl:kernel_cmdline", "/k ro"),
    (ev.EV_IPL, b"module_cmdline: /m\0", b"/m", "ipl:module_cmdline", "/m"),
    (ev.EV_IPL, b"grub_cmd: a\\nb\nc\0", b"a\\nb\nc", "ipl:grub_cmd", "a\\\\nb\\x0ac"),
    (ev.EV_IPL, "quiet".encode("utf-16-le") + b"\0\0", None, "ipl:load-options", "quiet"),
    (ev.EV_IPL, ".linux".encode("utf-16-le") + b"\0\0", b".linux\0", "uki-section", ".linux"),
    (ev.EV_IPL, b"some text\0", None, "ipl:text", "some text"),
    (ev.EV_EVENT_TAG, tag(0xF5BC582A, "timeout 1".encode("utf-16-le") + b"\0\0"), None, "event-tag:0xf5bc582a", "loader.conf timeout 1"),
    (ev.EV_EVENT_TAG, tag(0x1234, b"\xff\0"), b"\xff\0", "event-tag:0x1234", "ff00"),
    (ev.EV_S_CRTM_VERSION, "1.0".encode("utf-16-le") + b"\0\0", None, "crtm-version", "1.0"),
    (ev.EV_S_CRTM_VERSION, efi_guid(SHIM), None, "crtm-version", SHIM.upper()),
    (ev.EV_POST_CODE, b"POST CODE", None, "post-code", "POST CODE"),
    (ev.EV_POST_CODE2, b"POST CODE", None, "post-code", "POST CODE"),
    (ev.EV_PLATFORM_CONFIG_FLAGS, b"\1\2", None, "config-flags", "0102"),
    (ev.EV_PLATFORM_CONFIG_FLAGS, shim_info(b"td_hob", b"\1\2"), b"\1\2", "td-shim:td_hob", "0102"),
    (ev.EV_PLATFORM_CONFIG_FLAGS, shim_info(b"td_payload_info", b""), b"", "td-shim:td_payload_info", ""),
    (ev.EV_PLATFORM_CONFIG_FLAGS, shim_info(b"secure_policy_db", b"k"), b"k", "td-shim:secure_policy_db", "6b"),
    (ev.EV_PLATFORM_CONFIG_FLAGS, shim_info(b"td_hob", b"\1")[:-1], None, "config-flags",
     "74645f686f620000000000000000000001000000"),
    (ev.EV_RUNTIME, b"\1\0\0\x08:app-id:\xaa", None, "runtime:app-id", "aa"),
    (ev.EV_CPU_MICROCODE, b"rev 1\0", None, "cpu-microcode", "rev 1"),
    (ev.EV_EFI_HCRTM_EVENT, b"HCRTM", None, "hcrtm-event", "HCRTM"),
    (0x800000E1, b"\xff\1", None, "spdm-firmware-blob", "ff01"),
    (0x800000E4, b"x", None, "spdm-device-authority", "x"),
    (0x12345678, b"x", None, "event:0x12345678", "x"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "data", "covered", "name", "detail"),
    PROVEN,
    ids=[f"{item[3]} {number}" for number, item in enumerate(PROVEN)],
)
def test_an_event_whose_digest_is_of_its_data_is_proven(
    kind: int, data: bytes, covered: bytes | None, name: str, detail: str
) -> None:
    assert one(kind, data, covered) == (name, detail, True)
    assert one(kind, data, b"anything else") == (name, detail, False)


HOB = b"\x09TdxTable\0" + struct.pack("<Q", 1) + bytes(16) + struct.pack("<Q", 0x809000)
UNPROVABLE = [
    (ev.EV_EFI_HANDOFF_TABLES2, HOB, "td-hob", "00000000-0000-0000-0000-000000000000 at 0x809000"),
    (ev.EV_EFI_HANDOFF_TABLES2, b"\2x\0" + bytes(8), "handoff-tables:x", ""),
    (
        ev.EV_EFI_HANDOFF_TABLES, struct.pack("<Q", 1) + efi_guid("f2fd1544-9794-4a2c-992e-e5bbcf20e394") + struct.pack("<Q", 16),
        "smbios", "F2FD1544-9794-4A2C-992E-E5BBCF20E394 at 0x10",
    ),
    (ev.EV_EFI_HANDOFF_TABLES, bytes(8), "handoff-tables", ""),
    (ev.EV_EFI_PLATFORM_FIRMWARE_BLOB2, b"\5Fv(X)" + struct.pack("<QQ", 16, 32), "cfv", "Fv(X) 0x10, 32 bytes"),
    (ev.EV_EFI_PLATFORM_FIRMWARE_BLOB2, b"\1x" + struct.pack("<QQ", 16, 32), "firmware-blob:x", "0x10, 32 bytes"),
    (ev.EV_EFI_PLATFORM_FIRMWARE_BLOB, struct.pack("<QQ", 16, 32), "firmware-blob", "0x10, 32 bytes"),
    (ev.EV_POST_CODE2, b"\1x" + struct.pack("<QQ", 16, 32), "post-code", "x 0x10, 32 bytes"),
    (ev.EV_POST_CODE, struct.pack("<QQ", 0xFF000000, 32), "post-code", "0xff000000, 32 bytes"),
    (ev.EV_PLATFORM_CONFIG_FLAGS, b"QEMU FW CFG\0BootMenu".ljust(68, b"\0"), "fw-cfg:BootMenu", ""),
    (ev.EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA", "acpi:#1", ""),
    (ev.EV_EFI_BOOT_SERVICES_APPLICATION, image_load(file_node("\\a.efi") + END), "application", "\\a.efi"),
    (ev.EV_EFI_BOOT_SERVICES_DRIVER, image_load(b""), "driver", ""),
    (ev.EV_EFI_RUNTIME_SERVICES_DRIVER, image_load(END), "driver", ""),
    (ev.EV_EVENT_TAG, tag(0x8F3B22ED, b"LOADED_IMAGE::LoadOptions\0"), "load-options", "LOADED_IMAGE::LoadOptions"),
    (ev.EV_EVENT_TAG, tag(0x8F3B22EC, b"Linux initrd\0"), "initrd", "Linux initrd"),
    (ev.EV_IPL, b"(hd0)/boot/grub.cfg\0", "ipl:file", "(hd0)/boot/grub.cfg"),
    (ev.EV_IPL, b"/vmlinuz\0", "ipl:file", "/vmlinuz"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "data", "name", "detail"), UNPROVABLE, ids=lambda value: str(value)[:20])
def test_an_event_that_only_describes_what_was_hashed_is_never_proven(
    kind: int, data: bytes, name: str, detail: str
) -> None:
    assert one(kind, data) == (name, detail, False)


UNREADABLE = [
    (ev.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("PK", b"\1" * 40), "variable"),
    (ev.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("PK", b"") + b"\0", "variable"),
    (ev.EV_EFI_VARIABLE_AUTHORITY, b"short", "authority"),
    (ev.EV_EFI_VARIABLE_BOOT, variable("BootOrder", b"\1"), "boot-variable"),
    (ev.EV_EFI_VARIABLE_BOOT, variable("BootOrder", b"\1\0\1\0"), "boot-variable"),
    (ev.EV_EFI_VARIABLE_BOOT, variable("Boot0000", load_option("x", b"\1\1\1\1")), "boot-variable"),
    (ev.EV_EFI_VARIABLE_BOOT, variable("Boot0000", load_option("x", END, 0x10000)), "boot-variable"),
    (ev.EV_EFI_GPT_EVENT, gpt("a")[:-1], "gpt"),
    (ev.EV_EFI_GPT_EVENT, b"MZ" + gpt("a")[2:], "gpt"),
    (ev.EV_EFI_GPT_EVENT2, gpt()[:92] + struct.pack("<Q", 1 << 40), "gpt"),
    (ev.EV_EVENT_TAG, struct.pack("<II", 1, 9), "event-tag"),
    (ev.EV_EFI_HANDOFF_TABLES2, b"\xff", "handoff-tables"),
    (ev.EV_EFI_HANDOFF_TABLES, struct.pack("<Q", 1 << 60), "handoff-tables"),
    (ev.EV_EFI_BOOT_SERVICES_APPLICATION, image_load(b"\1\1\3\0"), "application"),
    (ev.EV_RUNTIME, b"\1\0\0\x08-app-id", "runtime"),
]


@pytest.mark.parametrize(("kind", "data", "name"), UNREADABLE, ids=lambda value: str(value)[:20])
def test_data_that_do_not_fit_their_type_are_kept_and_never_proven(kind: int, data: bytes, name: str) -> None:
    got, detail, proven = one(kind, data)
    assert (got, proven) == (name, False)
    assert detail.startswith("unreadable: ")


@pytest.mark.parametrize("line", [b"\xff\xfe", b"a\0b", b"\x7fELF\x02\x01", b"\x1f\x8b\x08"])
def test_the_bytes_of_a_program_do_not_pass_as_a_proven_line(line: bytes) -> None:
    name, _, proven = one(ev.EV_IPL, b"grub_cmd: " + line + b"\0", line)
    assert (name, proven) == ("ipl:grub_cmd", False)


def test_a_subject_cannot_smuggle_a_second_certificate_into_the_list() -> None:
    text = read_event(
        ev.EV_EFI_VARIABLE_DRIVER_CONFIG,
        variable("db", x509_lists(named_certificate("a; x509 " + "0" * 56)), IMAGE_SECURITY),
    ).detail
    assert text.count(";") == 0


def test_no_action_extends_nothing_and_is_never_proven() -> None:
    items = decoded(
        event(1, ev.EV_NO_ACTION, b"StartupLocality\0\3"), event(0, ev.EV_SEPARATOR, bytes(4)),
        event(1, ev.EV_NO_ACTION, b"SP800-155 Event3" + b"\1" * 4), event(1, ev.EV_NO_ACTION, b"\xff"),
    )  # fmt: skip
    assert [item.name for item in items] == [
        "no-action:StartupLocality", "separator", "no-action:SP800-155 Event3", "no-action:data",
    ]  # fmt: skip
    assert not any(item.extended or item.proven for item in items)


def test_qemus_acpi_files_are_named_by_their_place() -> None:
    def names(count: int) -> list[str]:
        return [item.name for item in decoded(*[event(1, ev.EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA")] * count)]

    assert names(3) == ["acpi:etc/table-loader", "acpi:etc/acpi/rsdp", "acpi:etc/acpi/tables"]
    assert names(4) == ["acpi:etc/table-loader", "acpi:etc/acpi/rsdp", "acpi:etc/tpm/log", "acpi:etc/acpi/tables"]
    assert names(5) == [f"acpi:#{number}" for number in range(1, 6)]


def test_a_log_is_judged_by_the_bank_that_is_asked_for() -> None:
    data = b"action"
    digests = ((ev.SHA1, hashlib.sha1(data).digest()), (ev.SHA256, bytes(32)))
    raw = build_event_log([NewEvent(4, ev.EV_EFI_ACTION, digests, data)], kind=TCG2, algorithms=(ev.SHA1, ev.SHA256))
    log = parse_event_log(raw)
    assert best_algorithm(log) == ev.SHA256
    assert not decode_log(log)[0].proven
    assert decode_log(log, ev.SHA1)[0].proven
    with pytest.raises(EvidenceUnsupported, match="SHA-384"):
        decode_log(log, ev.SHA384)


def test_sm3_digests_prove_nothing_here() -> None:
    raw = build_event_log([NewEvent(1, ev.EV_SEPARATOR, ((ev.SM3, bytes(32)),), bytes(4))], algorithms=(ev.SM3,))
    (item,) = decode_log(parse_event_log(raw))
    assert (item.name, item.proven) == ("separator", False)


def test_every_event_of_a_direct_boot_is_named_as_the_other_side_names_it() -> None:
    names = [(item.register, item.name) for item in decode_log(parse_event_log(direct_boot_log()))]
    assert names == [
        (0, "td-hob"), (0, "cfv"), (0, "fw-cfg:bootorder"), (0, "variable:SecureBoot"), (0, "variable:PK"),
        (0, "variable:KEK"), (0, "variable:db"), (0, "variable:dbx"), (0, "separator"), (0, "acpi:etc/table-loader"),
        (0, "acpi:etc/acpi/rsdp"), (0, "acpi:etc/acpi/tables"), (1, "application"), (0, "boot-order"),
        (0, "boot-option:Boot0000"), (1, "action:Calling EFI Application from Boot Option"), (1, "separator"),
        (2, "load-options"), (2, "initrd"), (1, "action:Exit Boot Services Invocation"),
        (1, "action:Exit Boot Services Returned with Success"),
    ]  # fmt: skip


def test_nothing_in_a_real_log_is_unreadable_or_of_unknown_type(vectors: Path) -> None:
    folder = vectors / "tdx" / "eventlogs"
    for path in sorted(folder.glob("ccel-*.bin")):
        if "acpi-table" in path.name:
            continue
        for item in decode_log(parse_event_log(path.read_bytes())):
            assert not item.detail.startswith("unreadable"), (path.name, item)
            assert not item.name.startswith("event:"), (path.name, item)


def test_a_dry_run_of_debians_firmware_is_decoded_and_proven_where_it_can_be(vectors: Path) -> None:
    run = json.loads((vectors / "tdx" / "rtmr" / "dryrun-debian-2026.08-a.json").read_text())
    events = [
        NewEvent(
            item["pcr"],
            int(item["type"], 16),
            ((ev.SHA384, bytes.fromhex(item["sha384"])),),
            bytes.fromhex(item["data"]),
        )
        for item in run["events"]
    ]
    items = decode_log(parse_event_log(build_event_log(events, kind=TCG2)))
    by_name = {item.name: item for item in items}
    assert by_name["crtm-version"].detail == "2026.08+ds-2"
    assert by_name["application"].digest.hex() == run["kernel_authenticode_sha384"]
    assert by_name["load-options"].digest.hex() == run["load_options_sha384"]
    assert by_name["initrd"].digest.hex() == run["initrd_sha384"]
    assert by_name["smbios"].digest.hex() == run["smbios_filtered_sha384"]
    assert by_name["acpi:etc/tpm/log"].digest == hashlib.sha384(bytes(65536)).digest()
    unproven = {"firmware-blob", "application", "smbios", "load-options", "initrd"}
    for item in items:
        assert item.proven != (item.name in unproven or item.name.startswith("acpi:")), item.name


def test_a_log_whose_data_lie_replays_and_is_not_proven(vectors: Path) -> None:
    folder = vectors / "tdx" / "eventlogs"
    good = decode_log(parse_event_log((folder / "ccel-gcp-cos113.bin").read_bytes()))
    lying = decode_log(parse_event_log((folder / "bad-eventdata-flip.bin").read_bytes()))
    changed = [number for number, (a, b) in enumerate(zip(good, lying, strict=True)) if a[1:] != b[1:]]
    assert len(changed) == 1
    assert good[changed[0]].digest == lying[changed[0]].digest
    assert good[changed[0]].proven
    assert not lying[changed[0]].proven


def test_a_long_value_is_shown_by_its_hash_so_that_none_look_alike() -> None:
    first, second = (
        read_event(ev.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("X", bytes(99) + tail)) for tail in (b"a", b"b")
    )
    assert first.detail != second.detail
