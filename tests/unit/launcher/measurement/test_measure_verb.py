"""``cvm measure``: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import argparse
import json
from hashlib import sha256
from pathlib import Path

import pytest

from launcher.cli import measure
from launcher.cli.measure_options import MeasureUsage
from launcher.io.hashing import FileUnreadable
from launcher.io.measurement import MeasurementImpossible, printable
from ovmf.errors import FirmwareMalformed, KernelNotMeasurable, UnknownCpuModel
from ovmf.kernel_hashes import NO_INITRD, KernelHashes, cmdline_hash
from ovmf.snp_launch import Firmware, digest_from_recipe, snp_launch_digest
from policy.reference import reference_from_bytes
from policy.vocab import Platform
from tests.fakes import firmware as fake

CMDLINE = "console=ttyS0 root=/dev/mapper/root"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    contents = {"firmware": fake.image(), "kernel": b"kernel" * 100_000, "initrd": b"initrd" * 200_000}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    return {name: str(tmp_path / name) for name in contents}


def words(files: dict[str, str], *more: str) -> list[str]:
    return ["--firmware", files["firmware"], "--vcpus", "4", "--cpu-model", "EPYC-Milan", *more]


def boot(files: dict[str, str]) -> list[str]:
    return ["--kernel", files["kernel"], "--initrd", files["initrd"], "--cmdline", CMDLINE]


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    measure.add_arguments(parser)
    return measure.run(parser.parse_args(argv))


def expected(files: dict[str, str], *, measured_boot: bool = True) -> str:
    kernel, initrd = (sha256(Path(files[name]).read_bytes()).digest() for name in ("kernel", "initrd"))
    hashes = KernelHashes(kernel, initrd, cmdline_hash(CMDLINE.encode())) if measured_boot else None
    firmware = Firmware.from_bytes(fake.image())
    return snp_launch_digest(firmware, vcpus=4, vcpu_sig=0xA00F11, hashes=hashes).hex()


def test_the_first_line_is_the_digest(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words(files, *boot(files))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == expected(files)
    assert any(files["initrd"] in line for line in lines)


def test_without_a_kernel_only_the_firmware_is_listed(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words(files)) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == expected(files, measured_boot=False)
    assert "\n  kernel" not in out


def test_json_names_every_input_with_its_hash(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    run(*words(files, *boot(files), "--json"))
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "cvm.measure/1"
    assert document["platform"] == "sev-snp"
    assert document["launch_digest"] == expected(files)
    assert [item["name"] for item in document["inputs"]] == ["firmware", "kernel", "initrd", "cmdline"]
    for item in document["inputs"][:3]:
        assert item["sha256"] == sha256(Path(item["path"]).read_bytes()).hexdigest()
    assert document["inputs"][3]["path"] == CMDLINE


def test_an_emulated_chip_measures_the_same(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    run(*words(files, *boot(files), "--platform", "emulated-snp"))
    assert capsys.readouterr().out.splitlines()[0] == expected(files)


def test_a_signature_stands_in_for_a_model(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    run("--firmware", files["firmware"], "--vcpus", "4", "--vcpu-sig", "0xa00f11", *boot(files))
    assert capsys.readouterr().out.splitlines()[0] == expected(files)


def test_a_missing_initrd_and_command_line_count_as_empty(files: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "x.json"
    run(*words(files, "--kernel", files["kernel"], "-o", str(output)))
    recipe = reference_from_bytes(output.read_bytes()).recipe
    assert recipe is not None
    assert (recipe.initrd_sha256, recipe.cmdline_sha256) == (NO_INITRD, cmdline_hash(b""))


def test_the_reference_file_reproduces_the_digest_without_the_files(files: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "web-1.ref.json"
    run(*words(files, *boot(files), "-o", str(output)))
    value = reference_from_bytes(output.read_bytes())
    assert (value.name, value.platform) == ("web-1", Platform.SEV_SNP)
    assert value.launch_digest.hex() == expected(files)
    assert value.recipe is not None
    assert digest_from_recipe(value.recipe) == value.launch_digest
    assert [item.name for item in value.recipe.inputs] == ["firmware", "kernel", "initrd", "cmdline"]


def test_the_reference_can_be_named(files: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "x.json"
    run(*words(files, "-o", str(output), "--name", "db-2"))
    assert reference_from_bytes(output.read_bytes()).name == "db-2"


def test_a_reference_that_cannot_be_written_is_an_error(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(MeasurementImpossible, match="No such file"):
        run(*words(files, "-o", str(tmp_path / "no" / "x.json")))


def test_an_unprintable_command_line_still_makes_a_readable_reference(files: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "x.json"
    run(*words(files, "--kernel", files["kernel"], "--cmdline", "a\tb\udcff", "-o", str(output)))
    recipe = reference_from_bytes(output.read_bytes()).recipe
    assert recipe is not None
    assert recipe.cmdline_sha256 == cmdline_hash(b"a\tb\xff")
    assert recipe.inputs[3].path == r"a\tb\udcff"
    assert printable("ordinary ü") == "ordinary ü"


def test_an_initrd_without_a_kernel_is_refused(files: dict[str, str]) -> None:
    with pytest.raises(MeasurementImpossible, match="only together with a kernel"):
        run(*words(files, "--initrd", files["initrd"]))


def test_a_command_line_without_a_kernel_is_refused(files: dict[str, str]) -> None:
    with pytest.raises(MeasurementImpossible, match="only together with a kernel"):
        run(*words(files, "--cmdline", "quiet"))


def test_a_platform_that_is_not_measured_is_refused(files: dict[str, str]) -> None:
    with pytest.raises(MeasurementImpossible, match="platform none"):
        run(*words(files, "--platform", "none"))


@pytest.mark.parametrize(
    "words", [["--order", "two-pass"], ["--events"], ["--disk", "d.img"], ["--processor-id", "00" * 8]]
)
def test_an_option_about_a_td_says_nothing_about_sev_snp(files: dict[str, str], words: list[str]) -> None:
    with pytest.raises(MeasureUsage, match=f"{words[0]}: only for platform tdx"):
        run("--firmware", files["firmware"], "--vcpus", "4", "--cpu-model", "EPYC-Milan", *words)


@pytest.mark.parametrize("missing", ["--firmware", "--vcpus", "--cpu-model"])
def test_a_missing_option_is_a_usage_error(files: dict[str, str], missing: str) -> None:
    argv = words(files)
    at = argv.index(missing)
    with pytest.raises(MeasureUsage):
        run(*argv[:at], *argv[at + 2 :])


def test_a_vm_file_and_options_together_are_a_usage_error(files: dict[str, str]) -> None:
    with pytest.raises(MeasureUsage, match="--firmware: not together with a VM file"):
        run("web-1.toml", *words(files))


@pytest.mark.parametrize("name", ["firmware", "kernel", "initrd"])
def test_a_file_that_is_not_there_is_named(files: dict[str, str], name: str) -> None:
    Path(files[name]).unlink()
    with pytest.raises(FileUnreadable, match=f"{name}: .*No such file"):
        run(*words(files, *boot(files)))


def test_a_folder_in_place_of_a_kernel_is_refused(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match="Is a directory"):
        run(*words(files, "--kernel", str(tmp_path)))


def test_a_file_that_is_no_firmware_is_refused(files: dict[str, str]) -> None:
    Path(files["firmware"]).write_bytes(bytes(8192))
    with pytest.raises(FirmwareMalformed):
        run(*words(files))


def test_a_firmware_without_room_for_hashes_is_refused(files: dict[str, str]) -> None:
    Path(files["firmware"]).write_bytes(fake.image(block=fake.metadata([(0x800000, 0x1000, 1)])))
    with pytest.raises(KernelNotMeasurable):
        run(*words(files, *boot(files)))


def test_an_unknown_model_is_refused(files: dict[str, str]) -> None:
    with pytest.raises(UnknownCpuModel):
        run("--firmware", files["firmware"], "--vcpus", "1", "--cpu-model", "Skylake")


def test_a_kernel_may_come_through_a_pipe(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import os
    import threading

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = Path(files["kernel"]).read_bytes()
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    run(*words(files, "--kernel", str(pipe), "--initrd", files["initrd"], "--cmdline", CMDLINE))
    writer.join()
    assert capsys.readouterr().out.splitlines()[0] == expected(files)


@pytest.mark.parametrize("last", [[], ["--json"]])
def test_plain_options_are_read_without_a_parser_and_alike(files: dict[str, str], last: list[str]) -> None:
    argv = words(files, *boot(files), "--guest-features", "0x21", "--vmm", "ec2", "--memory", "4GiB", *last)
    quick = measure.quick(argv)
    parser = argparse.ArgumentParser()
    measure.add_arguments(parser)
    slow = vars(parser.parse_args(argv))
    assert quick is not None
    assert {name: getattr(quick, name) for name in slow} == slow


@pytest.mark.parametrize(
    "argv",
    [
        [], ["-h"], ["--help"], ["web-1.toml"], ["--json"], ["--firmware"], ["--firmware=x", "y"], ["--firm", "x"],
        ["--vcpus", "x"], ["--vcpus", "٣"], ["--vcpu-sig", "-1"], ["--vcpu-sig", "xyz"], ["--platform", "sgx"],
        ["--vmm", "xen"], ["--kernel", "--initrd"], ["-o", "x"], ["--kernel", "--json"], ["--json", "--kernel", "x"],
    ],
)  # fmt: skip
def test_anything_else_is_left_to_the_parser(argv: list[str]) -> None:
    assert measure.quick(argv) is None
