"""``cvm measure`` of a TD: what it prints and writes, what it refuses, what it leaves open."""

from __future__ import annotations

import argparse
import json
from hashlib import sha256, sha384
from pathlib import Path

import pytest

from launcher.cli import measure
from launcher.cli.measure_options import MeasureUsage
from launcher.errors import PlanRefused
from launcher.io import shown_cache
from launcher.io.hashing import FileUnreadable
from launcher.io.machine_probe import ShownMachine, probe_machine
from launcher.io.measurement import MeasurementImpossible
from launcher.io.qemu_file import shipped
from launcher.io.toolchain import Toolchain, ToolchainMissing, find_toolchain, parse_version
from launcher.service import td_measuring
from ovmf.errors import DiskMalformed
from ovmf.pe import authenticode
from ovmf.smbios import parse_structures, with_processor_id
from policy.measured import replay
from policy.reference import reference_from_bytes
from policy.reference_tdx import TdRecipe, event_to_json
from tests.fakes.disks import fat16, gpt_disk
from tests.fakes.td_images import real_firmware
from tests.unit.ovmf.test_pe import small_pe
from tests.unit.ovmf.test_td_predict import ACPI, SMBIOS

GENERIC = real_firmware("OVMF.fd")
needs_firmware = pytest.mark.skipif(GENERIC is None, reason="no OVMF.fd: `make toolchain` fetches it")
CMDLINE = "console=ttyS0"
PROCESSOR = "f20f8000fffba90f"


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    measure.add_arguments(parser)
    return measure.run(parser.parse_args(argv, measure.MeasureOptions()))  # type: ignore[arg-type]


SHOWN = ShownMachine(ACPI, SMBIOS, {"BootMenu": b"\0\0"})


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A direct boot described by options; QEMU is not asked."""
    (tmp_path / "kernel").write_bytes(small_pe())
    (tmp_path / "initrd").write_bytes(b"initrd")
    monkeypatch.setattr("launcher.io.td_measurement.shown_machine", lambda *_args, **_named: SHOWN)
    tools = Toolchain(("qemu-system-x86_64",), {}, "11.1.3", tmp_path, tmp_path, "system")
    monkeypatch.setattr(td_measuring, "find_toolchain", lambda: tools)
    monkeypatch.setattr(td_measuring, "known_capabilities", lambda _: shipped("11.1"))
    return [
        "--platform", "tdx", "--firmware", str(GENERIC), "--memory", "2GiB", "--vcpus", "2",
        "--kernel", str(tmp_path / "kernel"), "--initrd", str(tmp_path / "initrd"), "--cmdline", CMDLINE,
    ]  # fmt: skip


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, object]:
    assert run(*argv, "--json") == 0
    parsed: dict[str, object] = json.loads(capsys.readouterr().out)
    return parsed


@needs_firmware
def test_the_document_has_mrtd_and_four_registers_that_replay_from_their_events(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = document(capsys, *words, "--processor-id", PROCESSOR, "--events", "-o", str(tmp_path / "web.json"))
    assert (found["schema"], found["platform"], found["mrtd"]) == ("cvm.measure/1", "tdx", found["launch_digest"])
    assert isinstance(found["rtmr"], list)
    value = reference_from_bytes((tmp_path / "web.json").read_bytes())
    assert isinstance(value.recipe, TdRecipe)
    assert [None if item is None else item.hex() for item in value.rtmrs] == found["rtmr"]
    assert found["events"] == [event_to_json(event) for event in value.recipe.events]
    assert found["rtmr"][:2] == [item.hex() for item in replay(value.recipe.events)[:2]]
    assert [item.name for item in value.recipe.inputs] == ["firmware", "kernel", "initrd", "cmdline"]


@needs_firmware
def test_without_the_processor_rtmr0_of_a_td_is_left_open_and_said_so(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, *words)
    assert isinstance(found["rtmr"], list)
    assert isinstance(found["unpredicted"], list)
    assert found["rtmr"][0] is None
    assert any("SMBIOS" in text for text in found["unpredicted"])
    emulated = ["emulated-tdx" if word == "tdx" else word for word in words]
    assert run(*emulated) == 0
    text = capsys.readouterr().out
    assert "RTMR0     not predicted" not in text
    assert "RTMR3     not predicted" in text


@needs_firmware
def test_without_a_qemu_nothing_of_its_tables_is_guessed(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none() -> Toolchain:
        raise ToolchainMissing("none")

    monkeypatch.setattr(td_measuring, "find_toolchain", none)
    found = document(capsys, *words)
    assert isinstance(found["unpredicted"], list)
    assert any("ACPI" in text for text in found["unpredicted"])
    with pytest.raises(ToolchainMissing):
        run(*["auto" if word == str(GENERIC) else word for word in words])


@needs_firmware
def test_an_old_qemu_measures_the_firmware_in_another_order(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kernel = bytearray(small_pe(tail=b"\0" * 4096))
    kernel[0x202:0x208] = b"HdrS\x0c\x02"
    (tmp_path / "kernel").write_bytes(kernel)
    usual = document(capsys, *words, "--events")
    old = document(capsys, *words, "--order", "two-pass", "--events")
    assert usual["mrtd"] != old["mrtd"]
    assert old["order"] == "two-pass"
    with pytest.raises(MeasurementImpossible, match="two-pass"):
        run(*["emulated-tdx" if word == "tdx" else word for word in words], "--order", "two-pass")


@needs_firmware
@pytest.mark.parametrize(
    ("drop", "add", "says"),
    [
        ("--memory", [], "--firmware, --vcpus and --memory"),
        ("--kernel", [], "either --kernel or --disk"),
        ("", ["--disk", "d.img"], "either --kernel or --disk"),
        ("", ["--cpu-model", "EPYC-v4"], "--cpu-model: says nothing about a TD"),
        ("", ["--guest-features", "1"], "--guest-features: says nothing about a TD"),
        ("", ["--processor-id", "12"], "want 16 hexadecimal digits"),
        ("--memory", ["--memory", "2 apples"], "want a size"),
    ],
)
def test_options_that_do_not_describe_a_td_are_usage_errors(
    words: list[str], drop: str, add: list[str], says: str
) -> None:
    if drop:
        at = words.index(drop)
        words = words[:at] + words[at + 2 :]
    with pytest.raises(MeasureUsage, match=says):
        run(*words, *add)


@needs_firmware
def test_a_firmware_with_keys_does_not_start_an_unsigned_kernel(words: list[str]) -> None:
    enrolled = real_firmware("OVMF.inteltdx.ms.fd")
    with pytest.raises(PlanRefused, match="carries no signature"):
        run(*[str(enrolled) if word == str(GENERIC) else word for word in words])


@needs_firmware
def test_a_disk_is_measured_by_its_table_and_its_application(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    image = small_pe()
    (tmp_path / "disk.img").write_bytes(gpt_disk(fat16("EFI/BOOT/BOOTX64.EFI", image)))
    words = [*words[: words.index("--kernel")], "--disk", str(tmp_path / "disk.img")]
    found = document(capsys, *words, "--events")
    assert isinstance(found["inputs"], list)
    assert isinstance(found["events"], list)
    assert [item["name"] for item in found["inputs"]] == ["firmware", "gpt", "application"]
    assert found["inputs"][2]["sha256"] == sha256(image).hexdigest()
    application = next(item for item in found["events"] if item["name"] == "application")
    assert application["digest"] == authenticode(image).hex()
    assert found["rtmr"] == [None] * 4
    with pytest.raises(DiskMalformed, match="is not in the EFI system partition"):
        run(*words, "--boot-path", "EFI/OTHER.EFI")
    with pytest.raises(FileUnreadable, match="disk"):
        run(*words[:-1], str(tmp_path / "none.img"))


@needs_firmware
def test_with_boot_options_and_failures_given_a_disk_boot_has_all_registers(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    image = (tmp_path / "kernel").read_bytes().ljust(0x300, b"\0")
    linux = image[:0x202] + b"HdrS\x0f\x02" + bytes(6) + b"\x10\0" + b"6.12".ljust(0x50, b"\0") + image[0x260:]
    (tmp_path / "disk.img").write_bytes(gpt_disk(fat16("EFI/BOOT/BOOTX64.EFI", linux)))
    for name, data in (("BootOrder", b"\7\0"), ("Boot0007", b"option")):
        (tmp_path / f"{name}-8be4df61-93ca-11d2-aa0d-00e098032b8c").write_bytes(bytes(4) + data)
    words = [*words[: words.index("--kernel")], "--disk", str(tmp_path / "disk.img"), "--processor-id", PROCESSOR]
    found = document(capsys, *words, "--events", "--boot-variables", str(tmp_path), "--exit-failures", "1")
    assert isinstance(found["events"], list)
    assert found["unpredicted"] == ["RTMR3: what the guest extends while it runs"]
    digests = {item["name"]: item["digest"] for item in found["events"]}
    assert digests["boot-option:Boot0007"] == sha384(b"option").hexdigest()
    assert [item["name"] for item in found["events"]].count("action:Exit Boot Services Invocation") == 2


@needs_firmware
@pytest.mark.parametrize("words_of_a_disk", [["--exit-failures", "0"], ["--boot-path", "X"], ["--boot-variables", "."]])
def test_what_only_a_disk_boot_has_is_refused_with_a_kernel(words: list[str], words_of_a_disk: list[str]) -> None:
    with pytest.raises(MeasurementImpossible, match="boots a kernel, not a disk"):
        run(*words, *words_of_a_disk)


@needs_firmware
def test_an_absurd_number_of_failures_is_a_usage_error(words: list[str]) -> None:
    with pytest.raises(MeasureUsage, match="at most 16"):
        run(*words, "--exit-failures", "17")


@needs_firmware
def test_the_machine_measured_from_a_vm_file_has_every_device_the_file_names(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        "launcher.io.td_measurement.shown_machine", lambda _tools, options, **_named: asked.extend(options) or SHOWN
    )
    (tmp_path / "vm.toml").write_text(f"""
        schema = 1
        name = "vm"
        platform = "tdx"
        memory = "2GiB"
        [boot]
        firmware = "{GENERIC}"
        kernel = "{tmp_path / "kernel"}"
        [devices]
        rng = true
        [vsock]
        """)
    assert run(str(tmp_path / "vm.toml")) == 0
    assert {
        "virtio-rng-pci,id=vsock0",
        "virtio-rng-pci,id=entropy0,rng=rng0,disable-legacy=on,iommu_platform=on",
    } <= set(asked)


def test_only_the_processors_number_is_replaced_in_the_smbios_table() -> None:
    processor = b"\x04\x2a\x00\x04" + bytes(38) + b"CPU\0\0"
    table = processor + SMBIOS
    changed = with_processor_id(table, bytes(range(8)))
    assert changed == table[:8] + bytes(range(8)) + table[16:]
    assert [item.type for item in parse_structures(changed)] == [item.type for item in parse_structures(table)]
    with pytest.raises(ValueError, match="processor_id"):
        with_processor_id(table, b"1")


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Toolchain, list[tuple[str, ...]]]:
    binary = tmp_path / "qemu-system-x86_64"
    binary.write_bytes(b"a QEMU")
    asked: list[tuple[str, ...]] = []

    def probe(argv: tuple[str, ...], _env: object, *, tpm: bool) -> ShownMachine:
        asked.append((*argv, str(tpm)))
        return SHOWN

    monkeypatch.setattr(shown_cache, "probe_machine", probe)
    monkeypatch.setenv("CVM_CACHE", str(tmp_path / "cache"))
    return Toolchain((str(binary),), {}, "11.1.3", tmp_path, tmp_path, "system"), asked


def test_qemu_is_asked_once_for_one_machine(cached: tuple[Toolchain, list[tuple[str, ...]]], tmp_path: Path) -> None:
    tools, asked = cached
    for kernel in ("/a", "/b"):
        assert shown_cache.shown_machine(tools, ("-m", "1G", "-kernel", kernel), tpm=False) == SHOWN
    assert len(asked) == 1
    shown_cache.shown_machine(tools, ("-m", "2G", "-kernel", "/a"), tpm=False)
    shown_cache.shown_machine(tools, ("-m", "1G", "-kernel", "/a"), tpm=True)
    (tmp_path / "qemu-system-x86_64").write_bytes(b"another")
    shown_cache.shown_machine(tools, ("-m", "1G", "-kernel", "/a"), tpm=False)
    assert len(asked) == 4


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"shown": {"acpi": {}}, "sha256": 1}'])
def test_a_damaged_entry_is_asked_for_again(
    cached: tuple[Toolchain, list[tuple[str, ...]]], tmp_path: Path, damage: bytes
) -> None:
    tools, asked = cached
    shown_cache.shown_machine(tools, (), tpm=False)
    [entry] = (tmp_path / "cache" / "shown").iterdir()
    entry.write_bytes(damage or entry.read_bytes().replace(b'"smbios": "00', b'"smbios": "01'))
    assert shown_cache.shown_machine(tools, (), tpm=False) == SHOWN
    assert len(asked) == 2


@pytest.mark.qemu
@needs_firmware
@pytest.mark.parametrize("machine", ["2cpu-2dev", "1cpu-nodev"])
def test_the_real_qemu_shows_what_was_recorded_of_it(vectors: Path, machine: str) -> None:
    """The published digests of QEMU's own tables for two machines, where this is that QEMU."""
    recorded = json.loads((vectors / f"tdx/rtmr/qemu-acpi-11.1.3-{machine}.json").read_text())
    try:
        tools = find_toolchain()
    except ToolchainMissing as exc:
        pytest.skip(exc.message)
    if parse_version(tools.version)[:2] != (11, 1):
        pytest.skip(f"the recorded QEMU is 11.1, this one is {tools.version}")
    argv = (*tools.qemu_argv, *(word for word in recorded["qemu_args"] if word != "-nographic"), "-display", "none")
    shown = probe_machine(argv, tools.env, tpm=False)
    for name, key in (("table-loader", "table_loader"), ("acpi/rsdp", "rsdp"), ("acpi/tables", "tables")):
        assert sha384(shown.acpi[f"etc/{name}"]).hexdigest() == recorded["expected"][key]["sha384"]
