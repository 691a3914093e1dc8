"""MRTD and RTMRs predicted, held against registers of real TDs and logs of real boots."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ovmf.acpi_loader import measured_blobs
from ovmf.boot_options import BootOption
from ovmf.errors import AcpiMalformed, LaunchInvalid, PeMalformed, SmbiosMalformed, VariablesMalformed
from ovmf.smbios import measured_digest, parse_structures
from ovmf.td_boot import DirectBoot
from ovmf.td_explain import explain_td
from ovmf.td_firmware import TdFirmware
from ovmf.td_hob import td_hob
from ovmf.td_kernel import DirectKernel, load_options, patched_by_old_qemu
from ovmf.td_layout import INITRD_FIRST, INITRD_LAST, NOT_MEASURED, TdLayout
from ovmf.td_metadata import TD_HOB, TEMP_MEM, TdSection
from ovmf.td_predict import DIRECT_BOOT_ORDER, Machine, TdMeasurement, predict_td
from ovmf.variables import EFI_GLOBAL, parse_variables, secure_boot
from policy.errors import CvmError
from policy.measured import MeasuredEvent, replay
from policy.reference_tdx import TdRecipe
from tests.fakes.td_images import real_firmware, td_image
from tests.unit.ovmf.test_pe import small_pe

GIB = 1 << 30
NEW = TdLayout(True, True, "before-boot-order", 1, INITRD_FIRST, (BootOption(0, b"menu"),), None, "2026.08")
OLD = NEW._replace(fw_cfg=False, smbios=NOT_MEASURED, load_options=INITRD_LAST)
SMBIOS = bytes.fromhex("000400000000") + bytes.fromhex("7f04fffe0000")
VARIABLES = ["variable:SecureBoot", "variable:PK", "variable:KEK", "variable:db", "variable:dbx"]


def command(kind: int, name: bytes) -> bytes:
    return (kind.to_bytes(4, "little") + name).ljust(128, b"\0")


ACPI = {
    "etc/table-loader": command(1, b"etc/acpi/rsdp") + command(1, b"etc/acpi/tables") + command(3, b"x") + bytes(128),
    "etc/acpi/tables": b"tables", "etc/acpi/rsdp": b"rsdp", "etc/other": b"not loaded",
}  # fmt: skip


def store(*variables: tuple[bytes, str, bytes, int], size: int = 0x4000) -> bytes:
    """A configuration volume of ``size`` bytes: (vendor, name, data, state)."""
    from ovmf import variables as known

    body = b""
    for vendor, name, data, state in variables:
        units = name.encode("utf-16-le") + b"\0\0"
        body += b"\xaa\x55" + bytes([state, 0]) + bytes(4 + 8 + 16 + 4) + len(units).to_bytes(4, "little")
        body += len(data).to_bytes(4, "little") + vendor + units + data
        body += b"\xff" * (-len(body) % 4)
    header = bytes(16) + known._NVRAM_VOLUME + size.to_bytes(8, "little") + b"_FVH" + bytes(4) + b"\x48\0"
    inner = known._AUTHENTICATED + (size - 0x48).to_bytes(4, "little") + b"\x5a\xfe" + bytes(6) + body
    return (header.ljust(0x48, b"\0") + inner).ljust(size, b"\xff")


def firmware(*variables: tuple[bytes, str, bytes, int]) -> TdFirmware:
    image = td_image()
    return TdFirmware.from_bytes(store(*variables) + image[0x4000:])


def kernel(release: bytes = b"6.12.1") -> bytes:
    data = bytearray(small_pe(sections=[(0x400, 0x400)], headers=0x400))
    data[0x202:0x206], data[0x206:0x208] = b"HdrS", b"\x0f\x02"
    data[0x20E:0x210] = (0x300).to_bytes(2, "little")
    data[0x500 : 0x500 + len(release) + 1] = release + b"\0"
    return bytes(data)


MACHINE = Machine(2 * GIB, ACPI, SMBIOS, {"BootMenu": b"\0\0", "bootorder": DIRECT_BOOT_ORDER})
BOOT = DirectBoot(DirectKernel(kernel(), b"\x11" * 48, b"console=ttyS0"))


def predict(layout: TdLayout = NEW, machine: Machine = MACHINE, boot: DirectBoot = BOOT, **more: Any) -> TdMeasurement:
    return predict_td(firmware(), machine, boot, layout=layout, rtmr3_stays_zero=True, **more)


def names(measurement: TdMeasurement, register: int) -> list[str]:
    return [event.name for event in measurement.events if event.register == register]


def from_vector(vectors: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((vectors / "tdx" / "rtmr" / name).read_text()))


@pytest.mark.parametrize(("name", "layout"), [("dstack-16gib.json", NEW), ("dstack-64gib.json", OLD)])
def test_predicted_events_replay_to_the_registers_of_a_real_td(vectors: Path, name: str, layout: TdLayout) -> None:
    """The published digests stand for the files that were not published; their order and all else is ours."""
    case = from_vector(vectors, name)
    given = case["inputs"]
    ranges = [(int(start, 16), int(size, 16)) for start, size in given["tdvf_td_hob_ranges"]]
    sections = [
        TdSection(0, 0, start, size, TD_HOB if start == int(given["td_hob_address"], 16) else TEMP_MEM, 0)
        for start, size in ranges
    ]
    base = firmware().sections[:2]
    image = td_image([*base, *sections])
    build = TdFirmware.from_bytes(store() + image[0x4000:])
    options = tuple(
        BootOption(n, bytes.fromhex(given[f"boot000{n}_data"])) for n in (0, 1) if f"boot000{n}_data" in given
    )
    machine = MACHINE._replace(memory_bytes=given["vm_config"]["memory_size"])
    layout = layout._replace(boot_options=options, secure_boot=False)
    found = predict_td(build, machine, BOOT, layout=layout, rtmr3_stays_zero=True)
    acpi = given["acpi_digests"]
    published = {
        "cfv": given["cfv_sha384"], "acpi:etc/table-loader": acpi["table_loader"], "acpi:etc/acpi/rsdp": acpi["rsdp"],
        "acpi:etc/acpi/tables": acpi["tables"], "smbios": given.get("smbios_filtered_sha384", ""),
        "application": given["kernel_authenticode_sha384"], "load-options": given["load_options_sha384"],
        "initrd": given["initrd_sha384"],
    }  # fmt: skip
    events = [e._replace(digest=bytes.fromhex(published[e.name])) if e.name in published else e for e in found.events]
    for register in range(3):
        mine = [event.digest.hex() for event in events if event.register == register]
        assert mine == case["events"][f"rtmr{register}"]
        assert replay(events)[register].hex() == case["expected"][f"rtmr{register}"]
    assert not found.unpredicted


@pytest.mark.parametrize("name", ["acpi-canonical-defaults.json", "acpi-runtime-capture.json"])
def test_rtmr0_is_the_published_one_for_tables_that_were_published(vectors: Path, name: str) -> None:
    """Tables and RSDP are bytes here; digests stand for the loader's script, the store and an option nobody published."""
    case = from_vector(vectors, name)
    ranges = [(int(start, 16), int(size, 16)) for start, size in case["tdvf"]["td_hob_ranges"]]
    hob = 0x809000
    places = [TdSection(0, 0, start, size, TD_HOB if start == hob else TEMP_MEM, 0) for start, size in ranges]
    image = td_image([*firmware().sections[:2], *places])
    build = TdFirmware.from_bytes(store() + image[0x4000:])
    tables = (vectors / "tdx" / case["acpi_tables"]).read_bytes()
    acpi = ACPI | {"etc/acpi/tables": tables, "etc/acpi/rsdp": bytes.fromhex(case["rsdp_hex"])}
    machine = MACHINE._replace(memory_bytes=case["memory_bytes"], acpi=acpi)
    layout = OLD._replace(secure_boot=False)
    found = predict_td(build, machine, BOOT, layout=layout, rtmr3_stays_zero=True)
    published = {
        "cfv": case["tdvf"]["cfv_sha384"],
        "acpi:etc/table-loader": case["table_loader_sha384"],
        "boot-option:Boot0000": case["events_rtmr0"][-1],
    }
    events = [e._replace(digest=bytes.fromhex(published[e.name])) if e.name in published else e for e in found.events]
    assert [event.digest.hex() for event in events if event.register == 0] == case["events_rtmr0"]
    assert replay(events)[0].hex() == case["expected"]["rtmr0"]


def test_td_hobs_are_those_of_real_logs(vectors: Path) -> None:
    for table in from_vector(vectors, "td-hob.json")["tables"].values():
        sections = tuple(
            TdSection(0, 0, int(start, 16), int(size, 16), TD_HOB if start == table["td_hob_address"] else TEMP_MEM, 0)
            for start, size in table["accepted_ranges"]
        )
        for mib, digest in table["sha384"].items():
            assert hashlib.sha384(td_hob(sections, int(mib) << 20)).hexdigest() == digest


def test_load_options_are_those_of_each_firmware_generation(vectors: Path) -> None:
    for case in from_vector(vectors, "load-options.json")["cases"]:
        for key, order, shim in (
            ("prefix", INITRD_FIRST, False),
            ("suffix", INITRD_LAST, False),
            ("prefix_with_shim", INITRD_FIRST, True),
        ):
            text = load_options(case["cmdline"].encode(), initrd=case["initrd"], order=order, shim=shim)
            assert hashlib.sha384(text).hexdigest() == case[key]["sha384"]


def test_a_dry_run_of_debian_s_firmware_is_predicted(vectors: Path) -> None:
    case = from_vector(vectors, "dryrun-debian-2026.08-a.json")
    structures = parse_structures(bytes.fromhex(case["smbios_tables_hex"]))
    assert measured_digest(structures).hex() == case["smbios_filtered_sha384"]
    path = real_firmware("OVMF.fd")
    if path is None or hashlib.sha256(path.read_bytes()).hexdigest() != case["firmware_sha256"]:
        pytest.skip("not this OVMF.fd here")
    own = b"".join(item.formatted + item.strings for item in structures if item.type not in (0, 127))
    files = DirectKernel(kernel(), hashlib.sha384(b"x" * 1000).digest(), case["cmdline"].encode())
    machine = Machine(case["memory_mib"] << 20, None, own, None)
    found = predict_td(TdFirmware.from_bytes(path.read_bytes()), machine, DirectBoot(files), flavour="emulated")
    pcrs = {1: 0, 7: 0, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 9: 2}
    for register in range(3):
        logged = [
            (int(event["type"], 16), event["sha384"]) for event in case["events"]
            if pcrs.get(event["pcr"]) == register and event["type"] not in ("0xa", "0x80000003")
        ]  # fmt: skip
        mine = [(e.type, e.digest.hex()) for e in found.events if e.register == register and e.name != "application"]
        assert mine == logged


def test_the_events_of_a_td_stand_in_the_firmware_s_order() -> None:
    found = predict()
    acpi = ["acpi:etc/table-loader", "acpi:etc/acpi/rsdp", "acpi:etc/acpi/tables"]
    boot = ["smbios", "boot-order", "boot-option:Boot0000"]
    assert names(found, 0) == [
        "td-hob", "cfv", "fw-cfg:BootMenu", "fw-cfg:bootorder", *VARIABLES, "separator", *acpi, *boot,
    ]  # fmt: skip
    assert names(found, 1) == [
        "application", "action:Calling EFI Application from Boot Option", "separator",
        "action:Exit Boot Services Invocation", "action:Exit Boot Services Returned with Success",
    ]  # fmt: skip
    assert names(found, 2) == ["load-options", "initrd"]
    assert found.unpredicted == ()
    assert found.rtmrs == replay(found.events)


def test_an_emulated_td_measures_one_separator_per_pcr_and_nothing_of_a_td() -> None:
    found = predict(flavour="emulated")
    assert names(found, 0)[:6] == [*VARIABLES, "separator"]
    assert names(found, 0)[-1] == "separator"
    assert names(found, 1).count("separator") == 5


def test_firmware_differs_in_where_things_stand() -> None:
    assert names(predict(NEW._replace(smbios="after-boot-order")), 0)[-1] == "smbios"
    assert "smbios" not in names(predict(OLD), 0)
    assert names(predict(OLD._replace(separator=0)), 0)[-1] == "separator"
    assert "separator" not in names(predict(OLD._replace(separator=0)), 1)


PK = (EFI_GLOBAL, "PK", b"key", 0x3F)


@pytest.mark.parametrize(("registers", "found"), [
    ({0}, lambda: predict(machine=MACHINE._replace(acpi=None))),
    ({0}, lambda: predict(machine=MACHINE._replace(smbios=None))),
    ({0}, lambda: predict(machine=MACHINE._replace(fw_cfg=None))),
    ({0}, lambda: predict(machine=MACHINE._replace(fw_cfg={}))),
    ({0}, lambda: predict(machine=MACHINE._replace(smbios=bytes.fromhex("7f04fffe0000")))),
    ({0}, lambda: predict(NEW._replace(boot_options=()))),
    ({0, 1}, lambda: predict(OLD._replace(separator=None))),
    ({2}, lambda: predict(NEW._replace(load_options=None))),
    ({2}, lambda: predict(boot=DirectBoot(BOOT.files._replace(kernel=kernel(b"6.8.0"))))),
    ({2}, lambda: predict(boot=DirectBoot(BOOT.files._replace(kernel=kernel(b"new"))))),
    ({0, 1, 2}, lambda: predict(boot=DirectBoot(BOOT.files._replace(shim=small_pe())))),
    ({3}, lambda: predict_td(firmware(), MACHINE, BOOT, layout=NEW)),
    ({0, 3}, lambda: predict_td(firmware(PK), MACHINE, BOOT, layout=NEW)),
])  # fmt: skip
def test_what_is_not_known_is_named_and_its_register_left_open(registers: set[int], found: Any) -> None:
    measurement = found()
    assert {index for index, value in enumerate(measurement.rtmrs) if value is None} == registers
    assert {int(text[4]) for text in measurement.unpredicted} == registers


def test_an_empty_command_line_without_initrd_measures_nothing() -> None:
    assert names(predict(boot=DirectBoot(DirectKernel(kernel(), None, b""))), 2) == []


def test_failed_attempts_to_end_boot_services_are_measured() -> None:
    assert names(predict(boot=BOOT._replace(exit_failures=1)), 1)[-3].endswith("Failure")


def test_input_that_can_never_start_is_refused() -> None:
    for wrong, error in (
        (lambda: predict(boot=DirectBoot(BOOT.files._replace(kernel=b"ELF"))), PeMalformed),
        (lambda: predict(boot=DirectBoot(BOOT.files._replace(cmdline=b"a\0b"))), LaunchInvalid),
        (lambda: predict(machine=MACHINE._replace(memory_bytes=4097)), LaunchInvalid),
        (lambda: predict(machine=MACHINE._replace(memory_bytes=1 << 20)), LaunchInvalid),
        (lambda: predict(machine=MACHINE._replace(smbios=b"\1\2\3")), SmbiosMalformed),
        (lambda: predict(machine=MACHINE._replace(acpi={})), AcpiMalformed),
        (lambda: predict(flavour="azure"), ValueError),
        (lambda: predict(order="both"), ValueError),
    ):
        with pytest.raises(error):
            wrong()


@pytest.mark.parametrize("loader", [
    b"", b"x" * 127, command(1, b"missing"), command(1, b""), command(1, b"\xff"), command(1, b"a\0b"),
])  # fmt: skip
def test_a_table_loader_that_is_none_is_refused(loader: bytes) -> None:
    with pytest.raises(AcpiMalformed):
        measured_blobs({"etc/table-loader": loader})


def test_variables_count_by_their_state() -> None:
    old, new = (EFI_GLOBAL, "PK", b"old", 0x3E), (EFI_GLOBAL, "PK", b"new", 0x3F)
    assert parse_variables(store()) == {}
    assert parse_variables(store(old)) == {(EFI_GLOBAL, "PK"): b"old"}
    assert parse_variables(store(new, old)) == {(EFI_GLOBAL, "PK"): b"new"}
    assert parse_variables(store((EFI_GLOBAL, "PK", b"gone", 0x3C))) == {}


def test_secure_boot_is_on_with_a_platform_key_unless_it_was_switched_off() -> None:
    from ovmf.variables import SECURE_BOOT_ENABLE

    off = (SECURE_BOOT_ENABLE, "SecureBootEnable", b"\0", 0x3F)
    assert secure_boot(parse_variables(store(PK)), supported=True) == b"\1"
    assert secure_boot(parse_variables(store(PK, off)), supported=True) == b"\0"
    assert secure_boot({}, supported=True) == b"\0"
    assert secure_boot(parse_variables(store(PK)), supported=False) == b""


@pytest.mark.parametrize("change", [
    (0x10, b"x"), (0x28, b"x"), (0x20, b"\0\0"), (0x48, b"y"), (0x58, b"\xff\xff\xff"), (0x5C, b"x"), (0x64, b"xx"),
    (0x64 + 36, b"\xff\xff\xff\x7f"), (0x64 + 60, b"\0\0\0\0"),
])  # fmt: skip
def test_a_store_that_contradicts_itself_is_refused(change: tuple[int, bytes]) -> None:
    at, new = change
    volume = store(PK)
    with pytest.raises(VariablesMalformed):
        parse_variables(volume[:at] + new + volume[at + len(new) :])


def test_real_firmware_has_the_variables_and_layout_of_its_build() -> None:
    path = real_firmware("OVMF.inteltdx.ms.fd")
    if path is None:
        pytest.skip("no OVMF.inteltdx.ms.fd: let the project fetch its toolchain")
    real = TdFirmware.from_bytes(path.read_bytes())
    assert {name for _, name in real.variables} == {"PK", "KEK", "db", "dbx"}
    assert real.layout.secure_boot
    assert real.layout.fw_cfg
    assert real.layout.separator == 1
    assert [option.number for option in real.layout.boot_options] == [0, 1]


def test_old_qemu_fills_in_the_setup_header() -> None:
    patched = patched_by_old_qemu(kernel(), ram_below_4g=2 * GIB, initrd_size=1000)
    assert patched[0x210] == 0xB0
    assert patched[0x228:0x22C] == (0x20000).to_bytes(4, "little")
    assert int.from_bytes(patched[0x218:0x21C], "little") % 4096 == 0
    assert patched[0x264:] == kernel()[0x264:]
    with pytest.raises(CvmError):
        patched_by_old_qemu(b"MZ" * 1000, ram_below_4g=2 * GIB, initrd_size=None)
    with pytest.raises(LaunchInvalid):
        patched_by_old_qemu(kernel(), ram_below_4g=GIB, initrd_size=GIB)


def test_a_mismatch_is_explained_by_the_event_that_differs() -> None:
    expected = predict()
    recipe = TdRecipe(bytes(32), "single-pass", "tdx", (), 2 * GIB, 2, expected.events, expected.unpredicted)
    assert explain_td(recipe, expected.mrtd, expected.mrtd, replay(expected.events)).same
    other = predict(boot=DirectBoot(BOOT.files._replace(initrd_sha384=b"\x22" * 48)))
    found = explain_td(recipe, expected.mrtd, bytes(48), replay(other.events), other.events)
    assert found.registers == (2,)
    assert not found.same
    assert found.lines() == (
        "MRTD: another firmware, or a VMM that measures it in another order",
        "RTMR2 event 2 initrd: expected 111111111111…, got 222222222222…",
    )
    blind = explain_td(recipe, expected.mrtd, expected.mrtd, replay(other.events))
    assert blind.lines() == ("RTMR2: differs, and no log tells why",)
    assert MeasuredEvent(2, 6, b"\x22" * 48, "initrd") in other.events
