"""``cvm explain``: from a report or digest to the input that differs."""

from __future__ import annotations

import argparse
import json
from base64 import b64encode
from pathlib import Path

import pytest

from launcher.cli import explain, measure
from launcher.cli.measure_options import MeasureUsage
from launcher.core.snp_evidence import digest_of_report, unwrapped
from launcher.io.hashing import FileUnreadable
from policy.errors import MalformedInput, UnsupportedInput
from tests.fakes import firmware as fake

CMDLINE = "console=ttyS0 root=/dev/mapper/root"


def run(module: object, *argv: str) -> int:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)  # type: ignore[attr-defined]
    status: int = module.run(parser.parse_args(argv))  # type: ignore[attr-defined]
    return status


@pytest.fixture
def launch(tmp_path: Path) -> list[str]:
    for name, data in (("fw", fake.image()), ("kernel", b"k"), ("initrd", b"i"), ("initrd2", b"j")):
        (tmp_path / name).write_bytes(data)
    return [
        "--firmware", str(tmp_path / "fw"), "--vcpus", "2", "--cpu-model", "EPYC-v4", "--kernel", str(tmp_path / "kernel"),
        "--initrd", str(tmp_path / "initrd"), "--cmdline", CMDLINE,
    ]  # fmt: skip


def changed(launch: list[str], option: str, value: str) -> list[str]:
    at = launch.index(option)
    return [*launch[: at + 1], value, *launch[at + 2 :]]


def digest(launch: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(measure, *launch) == 0
    return capsys.readouterr().out.splitlines()[0]


def report(measurement: bytes, version: int = 3, algorithm: int = 1) -> bytes:
    data = bytearray(0x4A0)
    data[0:4] = version.to_bytes(4, "little")
    data[0x34:0x38] = algorithm.to_bytes(4, "little")
    data[0x90:0xC0] = measurement
    return bytes(data)


def explained(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, object]:
    status = run(explain, *argv, "--json")
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    assert document["schema"] == "cvm.explain/1"
    assert status == (10 if document["outcome"] == "unexplained" else 0)
    return document


def test_the_expected_report_needs_no_explanation(
    launch: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.bin"
    file.write_bytes(report(bytes.fromhex(digest(launch, capsys))))
    assert explained(capsys, str(file), *launch)["outcome"] == "same"


def test_an_extended_report_is_read_too(launch: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report.bin"
    file.write_bytes(report(bytes.fromhex(digest(launch, capsys))) + bytes(4096))
    assert explained(capsys, str(file), *launch)["outcome"] == "same"


def test_another_initrd_is_found_among_the_suspects(
    launch: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(tmp_path / "initrd2")
    reported = digest(changed(launch, "--initrd", other), capsys)
    document = explained(capsys, "--digest", reported, "--try-initrd", other, *launch)
    assert [item["name"] for item in document["differences"]] == ["initrd"]  # type: ignore[attr-defined, index]
    assert other in document["differences"][0]["reported"]  # type: ignore[index]
    assert explained(capsys, "--digest", reported, *launch)["outcome"] == "unexplained"


def test_recipes_alone_explain_without_any_boot_file(
    launch: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = str(tmp_path / "ours.json"), str(tmp_path / "theirs.json")
    tampered = changed(launch, "--initrd", str(tmp_path / "initrd2"))
    run(measure, *launch, "-o", ours)
    run(measure, *tampered, "-o", theirs)
    capsys.readouterr()
    reported = digest(tampered, capsys)
    for name in ("fw", "kernel", "initrd", "initrd2"):
        (tmp_path / name).unlink()
    document = explained(capsys, "--digest", reported, "--reference", ours, "--candidate", theirs)
    assert document["message"] == (
        "same firmware, vCPUs, CPU model, guest features, VMM, kernel, command line; initrd differs"
    )


@pytest.mark.parametrize("slip", [CMDLINE + "\n", CMDLINE + " ", f'"{CMDLINE}"', ""])
def test_a_command_line_that_slipped_is_found_by_itself(
    launch: list[str], slip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reported = digest(changed(launch, "--cmdline", slip), capsys)
    document = explained(capsys, "--digest", reported, *launch)
    assert [item["name"] for item in document["differences"]] == ["cmdline"]  # type: ignore[attr-defined, index]


@pytest.mark.parametrize(("option", "value"), [("--cmdline", "other"), ("--kernel", "initrd2")])
def test_other_suspects_are_found_too(
    launch: list[str], tmp_path: Path, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = value if option == "--cmdline" else str(tmp_path / value)
    reported = digest(changed(launch, option, other), capsys)
    document = explained(capsys, "--digest", reported, option.replace("--", "--try-"), other, *launch)
    assert [item["name"] for item in document["differences"]] == [option[2:]]  # type: ignore[attr-defined, index]


def test_another_firmware_is_found(launch: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "fw2"
    other.write_bytes(fake.image(size=16384))
    reported = digest(changed(launch, "--firmware", str(other)), capsys)
    document = explained(capsys, "--digest", reported, "--try-firmware", str(other), *launch)
    assert [item["name"] for item in document["differences"]] == ["firmware"]  # type: ignore[attr-defined, index]


def test_people_read_both_digests_and_what_differs(launch: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    reported = digest(changed(launch, "--vcpus", "3"), capsys)
    run(explain, "--digest", reported, *launch)
    out = capsys.readouterr().out
    assert reported in out
    assert "not verified" in out
    assert "vCPUs differ" in out


def test_a_digest_of_the_wrong_length_is_refused(launch: list[str]) -> None:
    with pytest.raises(MalformedInput, match="got 2 bytes, want 48"):
        run(explain, "--digest", "abcd", *launch)


def test_evidence_and_digest_together_are_a_usage_error(launch: list[str]) -> None:
    with pytest.raises(MeasureUsage):
        run(explain, "report.bin", "--digest", "ab", *launch)
    with pytest.raises(MeasureUsage):
        run(explain, *launch)


def test_a_reference_and_a_launch_together_are_a_usage_error(launch: list[str]) -> None:
    with pytest.raises(MeasureUsage, match="--reference"):
        run(explain, "--digest", "00" * 48, "--reference", "x.json", *launch)


@pytest.mark.parametrize("length", [0, 0x8F, 0x49F])
def test_a_short_report_is_refused(length: int) -> None:
    with pytest.raises(MalformedInput, match=f"got {length} bytes"):
        digest_of_report(report(bytes(48))[:length])


@pytest.mark.parametrize("version", [0, 6, 0xFFFFFFFF])
def test_a_report_of_an_unknown_version_is_refused(version: int) -> None:
    with pytest.raises(UnsupportedInput, match=f"version got {version}"):
        digest_of_report(report(bytes(48), version))


def test_a_report_with_another_algorithm_is_refused() -> None:
    with pytest.raises(UnsupportedInput, match="algorithm at 0x34 got 2"):
        digest_of_report(report(bytes(48), algorithm=2))


def test_a_report_is_taken_out_of_what_it_comes_wrapped_in() -> None:
    raw = report(b"\xab" * 48)
    answer = bytes(4) + len(raw).to_bytes(4, "little") + bytes(24)
    for data in (
        raw,
        raw + bytes(4096),
        answer + raw,
        answer + raw + bytes(2784),
        b"HCLA" + bytes(28) + raw + bytes(1384),
    ):
        for spelled in (data, data.hex().encode(), b64encode(data), b" 0x" + data.hex(" ", 2).encode() + b"\n"):
            assert digest_of_report(unwrapped(spelled)).hex() == "ab" * 48
    with pytest.raises(UnsupportedInput, match="attest evidence show --json"):
        unwrapped(b' {"report": "AA"}')


def test_the_digest_of_a_real_report_is_read(vectors: Path) -> None:
    manifest = json.loads((vectors / "snp" / "manifest.json").read_text())
    reports = [item for item in manifest["vectors"] if item["kind"] == "report" and "measurement" in item["facts"]]
    if not reports:
        pytest.skip("the manifest states no measurements")
    for item in reports:
        data = (vectors / "snp" / item["file"]).read_bytes()
        assert digest_of_report(data).hex() == item["facts"]["measurement"]


def test_earlier_launches_are_looked_for_in_a_folder(
    launch: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "earlier").mkdir()
    old = changed(launch, "--initrd", str(tmp_path / "initrd2"))
    assert run(measure, *old, "-o", str(tmp_path / "earlier" / "old.json")) == 0
    (tmp_path / "earlier" / "other.json").write_text("{}")
    reported = capsys.readouterr().out.splitlines()[0]
    document = explained(capsys, "--digest", reported, *launch, "--candidate", str(tmp_path / "earlier"))
    assert [item["name"] for item in document["differences"]] == ["initrd"]  # type: ignore[attr-defined]


def test_firmware_is_looked_for_in_a_folder(
    launch: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "VARS.fd").write_bytes(bytes(4096))
    (tmp_path / "images" / "CODE.fd").write_bytes(fake.image(size=16384))
    reported = digest(changed(launch, "--firmware", str(tmp_path / "images" / "CODE.fd")), capsys)
    document = explained(capsys, "--digest", reported, *launch, "--try-firmware", str(tmp_path / "images"))
    assert [item["name"] for item in document["differences"]] == ["firmware"]  # type: ignore[attr-defined]


def test_a_kernel_nobody_expected_is_found(
    launch: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reported = digest(launch, capsys)
    suspects = ["--try-kernel", launch[7], "--try-initrd", launch[9], "--try-cmdline", CMDLINE]
    document = explained(capsys, "--digest", reported, *launch[:6], *suspects)
    assert [item["name"] for item in document["differences"]] == ["kernel_hashes"]  # type: ignore[attr-defined]


def test_a_folder_that_is_not_there_is_named(launch: list[str], tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match="nowhere"):
        run(explain, "--digest", "ab" * 48, *launch, "--candidate", str(tmp_path / "nowhere"))
