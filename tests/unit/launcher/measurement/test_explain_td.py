"""``cvm explain`` of a TD's quote: the register, the event, and which candidate it is."""

from __future__ import annotations

import argparse
import json
import struct
from collections.abc import Sequence
from hashlib import sha384
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import explain, measure
from launcher.cli.measure_options import MeasureUsage
from launcher.core.td_evidence import events_that_replay, is_td_quote, log_entries, registers_of_quote
from launcher.io.qemu_file import shipped
from launcher.io.toolchain import Toolchain
from launcher.service import td_measuring
from ovmf.td_firmware import TdFirmware
from policy.errors import CvmError, MalformedInput
from policy.measured import MeasuredEvent, replay
from policy.reference import ReferenceValue, reference_from_bytes
from policy.reference_tdx import TdRecipe
from tests.unit.launcher.measurement.test_measure_td import CMDLINE, GENERIC, PROCESSOR, SHOWN, needs_firmware
from tests.unit.ovmf.test_pe import small_pe

HEADER = struct.pack("<HHI", 4, 2, 0x81) + bytes(40)


def run(module: Any, *argv: str) -> int:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    options = measure.MeasureOptions() if module is measure else None
    return int(module.run(parser.parse_args(argv, options)))


def quote(mrtd: bytes, rtmrs: Sequence[bytes], *, version: int = 4) -> bytes:
    """A quote's signed part: header, (version 5: what body it is,) and a TD report 1.0."""
    header = struct.pack("<H", version) + HEADER[2:] + (struct.pack("<HI", 2, 584) if version == 5 else b"")
    return header + (bytes(136) + mrtd + bytes(144) + b"".join(rtmrs)).ljust(584, b"\0")


def log(events: Sequence[MeasuredEvent], data: dict[str, bytes], *, tpm: bool = False) -> bytes:
    """A crypto-agile log of SHA-384 with real data for the named events; padded with 0xff as a real one is."""
    spec = b"Spec ID Event03\0" + struct.pack("<IBBBBIHHB", 0, 0, 2, 0, 2, 1, 0x0C, 48, 0)
    found = struct.pack("<II20sI", 1, 3, b"", len(spec)) + spec
    pcr = {0: 7, 1: 4, 2: 9, 3: 15}
    for event in events:
        index = pcr[event.register] if tpm else event.register + 1
        body = data.get(event.name, b"")
        found += struct.pack("<IIIH", index, event.type, 1, 0x0C) + event.digest + struct.pack("<I", len(body)) + body
    return found + b"\xff" * 64


@pytest.fixture
def value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReferenceValue:
    """A TD measured to ``td.json``: two CPUs, a kernel with a release, an initrd."""
    kernel = bytearray(small_pe(tail=b"\0" * 8192))
    kernel[0x202:0x206] = b"HdrS"
    kernel[0x20E:0x210] = (0x400).to_bytes(2, "little")
    kernel[0x600:0x605] = b"6.12\0"
    (tmp_path / "kernel").write_bytes(kernel)
    (tmp_path / "kernel2").write_bytes(bytes(kernel[:-1]) + b"\1")
    (tmp_path / "initrd").write_bytes(b"initrd")
    (tmp_path / "initrd2").write_bytes(b"another")
    monkeypatch.setattr("launcher.io.td_measurement.shown_machine", lambda *_args, **_named: SHOWN)
    tools = Toolchain(("qemu-system-x86_64",), {}, "11.1.3", tmp_path, tmp_path, "system")
    monkeypatch.setattr(td_measuring, "find_toolchain", lambda: tools)
    monkeypatch.setattr(td_measuring, "known_capabilities", lambda _: shipped("11.1"))
    monkeypatch.chdir(tmp_path)
    run(measure, *LAUNCH, "-o", "td.json")
    return reference_from_bytes((tmp_path / "td.json").read_bytes())


LAUNCH = (
    "--platform", "tdx", "--firmware", str(GENERIC), "--memory", "2GiB", "--vcpus", "2", "--kernel", "kernel",
    "--initrd", "initrd", "--cmdline", CMDLINE, "--processor-id", PROCESSOR,
)  # fmt: skip


def events_of(value: ReferenceValue) -> tuple[MeasuredEvent, ...]:
    assert isinstance(value.recipe, TdRecipe)
    return value.recipe.events


def changed(value: ReferenceValue, name: str, digest: bytes) -> list[MeasuredEvent]:
    events = [event._replace(digest=digest) if event.name == name else event for event in events_of(value)]
    assert events != list(events_of(value))
    return events


def written(events: Sequence[MeasuredEvent], mrtd: bytes, data: dict[str, bytes] | None = None) -> None:
    Path("quote").write_bytes(quote(mrtd, replay(events)))
    Path("log").write_bytes(log(events, data or {}))


def explained(capsys: pytest.CaptureFixture[str], status: int, *argv: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(explain, "quote", *argv, "--json") == status
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["verified"] is False
    return document


@needs_firmware
def test_a_td_as_expected_is_the_same(value: ReferenceValue, capsys: pytest.CaptureFixture[str]) -> None:
    written(events_of(value), value.launch_digest)
    for words in (("--reference", "td.json"), LAUNCH):
        document = explained(capsys, 0, *words, "--eventlog", "log")
        assert (document["outcome"], document["differing"]) == ("same", [])
        assert document["not_compared"] == ["RTMR3"]


@needs_firmware
def test_another_command_line_is_named_by_the_log_with_its_text(
    value: ReferenceValue, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "initrd=initrd console=ttyS0 evil\0".encode("utf-16-le")
    events = changed(value, "load-options", sha384(options).digest())
    written(events, value.launch_digest, {"load-options": struct.pack("<II", 0x8F3B22ED, len(options)) + options})
    document = explained(capsys, 0, "--reference", "td.json", "--eventlog", "log")
    assert document["differing"] == ["RTMR2"]
    assert [line for line in document["differences"] if "RTMR2 event 1 load-options" in line]
    assert "console=ttyS0 evil" in document["differences"][0]


@needs_firmware
@pytest.mark.parametrize("tpm", [False, True])
def test_another_kernel_is_found_among_the_candidates_by_a_tds_or_a_tpms_log(
    value: ReferenceValue, capsys: pytest.CaptureFixture[str], tpm: bool
) -> None:
    from ovmf.pe import authenticode

    events = changed(value, "application", authenticode(Path("kernel2").read_bytes()))
    written(events, value.launch_digest)
    Path("log").write_bytes(log(events, {}, tpm=tpm))
    document = explained(capsys, 0, "--reference", "td.json", "--eventlog", "log", "--try-kernel", "kernel2")
    assert document["causes"] == ["RTMR1: application is kernel kernel2"]


@needs_firmware
def test_without_a_log_every_mixture_of_the_candidates_is_tried(
    value: ReferenceValue, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "initrd=initrd quiet\0".encode("utf-16-le")
    events = changed(value, "initrd", sha384(b"another").digest())
    events = [
        event._replace(digest=sha384(options).digest()) if event.name == "load-options" else event for event in events
    ]
    written(events, value.launch_digest)
    tries = ("--try-cmdline", "quiet", "--try-initrd", "initrd2", "--try-kernel", "kernel2")
    document = explained(capsys, 0, *LAUNCH, *tries)
    assert sorted(document["causes"]) == [
        "RTMR2: initrd is initrd initrd2",
        "RTMR2: load-options is command line 'quiet'",
    ]
    assert explained(capsys, 10, *LAUNCH, "--try-cmdline", "quiet")["outcome"] == "unexplained"


@needs_firmware
def test_another_order_or_firmware_explains_mrtd_or_nothing_does(
    value: ReferenceValue, capsys: pytest.CaptureFixture[str]
) -> None:
    firmware = TdFirmware.from_bytes(Path(str(GENERIC)).read_bytes())
    written(events_of(value), firmware.mrtd(two_pass=True))
    document = explained(capsys, 0, *LAUNCH)
    assert document["causes"] == ["MRTD: this firmware, measured in the order two-pass"]
    Path("quote").write_bytes(quote(b"\7" * 48, replay(events_of(value)), version=5))
    assert explained(capsys, 10, *LAUNCH)["differing"] == ["MRTD"]
    document = explained(capsys, 10, "--reference", "td.json", "--try-firmware", str(GENERIC))
    assert document["causes"] == []


@needs_firmware
def test_a_log_that_does_not_replay_explains_nothing(value: ReferenceValue) -> None:
    written(events_of(value), value.launch_digest)
    Path("log").write_bytes(log(changed(value, "initrd", b"\1" * 48), {}))
    with pytest.raises(MalformedInput, match="does not replay"):
        run(explain, "quote", "--reference", "td.json", "--eventlog", "log")


@needs_firmware
def test_the_explanation_is_read_by_people_too(value: ReferenceValue, capsys: pytest.CaptureFixture[str]) -> None:
    written(changed(value, "initrd", b"\1" * 48), value.launch_digest)
    assert run(explain, "quote", "--reference", "td.json") == 10
    text = capsys.readouterr().out
    assert "not verified" in text
    assert "RTMR2: differs, and no log tells why" in text
    assert "--eventlog" in text
    with pytest.raises(MeasureUsage, match="of a TD: want"):
        run(explain, "quote", "--firmware", str(GENERIC))


def test_a_log_is_for_quotes_only(tmp_path: Path) -> None:
    (tmp_path / "report").write_bytes(bytes(1184))
    with pytest.raises(MeasureUsage, match="only with the quote of a TD"):
        run(explain, str(tmp_path / "report"), "--eventlog", "x")


def test_every_shortening_of_a_quote_is_refused() -> None:
    for version in (4, 5):
        whole = quote(b"\1" * 48, [b"\2" * 48] * 4, version=version)
        assert is_td_quote(whole)
        assert registers_of_quote(whole).rtmrs == (b"\2" * 48,) * 4
        for size in range(0, 520 + 48, 7):
            with pytest.raises(CvmError):
                registers_of_quote(whole[:size])
    other = bytearray(quote(b"", [], version=5))
    other[48] = 1
    with pytest.raises(CvmError, match="want a TD report"):
        registers_of_quote(bytes(other))
    assert not is_td_quote(HEADER[:4] + bytes(44))


def test_a_damaged_log_is_refused() -> None:
    event = MeasuredEvent(0, 4, b"\1" * 48, "separator")
    whole = log([event], {})
    assert [entry.mr_index for entry in log_entries(whole)] == [1]
    header = whole.index(struct.pack("<IIIH", 1, 4, 1, 0x0C))
    for size in range(len(whole) - 64):
        if size != header:  # a log without events is one
            with pytest.raises(CvmError):
                log_entries(whole[:size])
    for offset, byte, says in ((8, 0, "0 digests"), (8, 9, "9 digests"), (12, 0x0B, "not in the header")):
        bad = bytearray(whole)
        bad[header + offset] = byte
        with pytest.raises(CvmError, match=says):
            log_entries(bytes(bad))


def nothing_is_read_of(data: bytes) -> bool:
    try:
        return events_that_replay(log_entries(data), [bytes(48)] * 3, ()) is None
    except CvmError:
        return True


def test_real_logs_replay_to_the_registers_they_came_with_and_damaged_ones_do_not(vectors: Path) -> None:
    """Read this minimally, each of the real logs gives RTMR0 to RTMR2; of a damaged one nothing is believed."""
    entries = json.loads((vectors / "tdx" / "manifest.json").read_text())["entries"]
    seen = 0
    for entry in entries:
        expected = entry.get("expected", {})
        if entry["kind"] not in ("ccel_eventlog", "ccel_eventlog_bad"):
            continue
        data = (vectors / "tdx" / entry["file"]).read_bytes()
        if {"rtmr0", "rtmr1", "rtmr2"} <= set(expected):
            rtmrs = [bytes.fromhex(expected[f"rtmr{number}"]) for number in range(3)]
            assert events_that_replay(log_entries(data), rtmrs, ()) is not None, entry["file"]
            seen += 1
        elif expected.get("result") == "reject":
            assert nothing_is_read_of(data), entry["file"]
    assert seen >= 3
