"""``cvm measure`` for SVSM, SEV, SEV-ES and IGVM launches, step by step, and with explicit CPU numbers."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from launcher.cli import main
from ovmf.igvm import parse_igvm
from ovmf.igvm_launch import igvm_launch_digest
from ovmf.kernel_hashes import NO_INITRD, KernelHashes, cmdline_hash
from ovmf.sev_launch import sev_es_launch_digest, sev_launch_digest
from ovmf.svsm import svsm_launch_digest
from policy.reference import reference_from_bytes
from tests.fakes import firmware as fake
from tests.fakes import igvm as fake_igvm
from tests.unit.ovmf.test_other_modes import svsm

CPU = ["--vcpus", "2", "--cpu-model", "EPYC-Milan"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "fw": fake.image(),
        "svsm": svsm(),
        "vars": bytes(0x84000),
        "kernel": b"kernel",
        "file.igvm": fake_igvm.typical(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def measured(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    assert main(["measure", *argv]) == 0, capsys.readouterr().err
    return capsys.readouterr().out.splitlines()


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    status = main(["measure", *argv])
    return status, capsys.readouterr().err


def test_svsm_sev_and_sev_es_print_their_digests(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hashes = KernelHashes(sha256(b"kernel").digest(), NO_INITRD, cmdline_hash(b"x"))
    image, cpu = fake.image(), {"vcpus": 2, "vcpu_sig": 0xA00F11}
    want = svsm_launch_digest(image, svsm(), variable_store_size=0x84000, **cpu).hex()
    for size in (["--vars-file", "vars"], ["--vars-size", str(0x84000)]):
        lines = measured(capsys, "--mode", "svsm", "--firmware", "fw", "--svsm", "svsm", *size, *CPU)
        assert lines[0] == want
    boot = ["--kernel", "kernel", "--cmdline", "x"]
    assert measured(capsys, "--mode", "sev", "--firmware", "fw", *boot)[0] == sev_launch_digest(image, hashes).hex()
    lines = measured(capsys, "--mode", "sev-es", "--firmware", "fw", *boot, *CPU)
    assert lines[0] == sev_es_launch_digest(image, hashes=hashes, **cpu).hex()
    assert any(sha256(b"kernel").hexdigest() in line for line in lines)


def test_an_igvm_file_is_measured_and_becomes_a_reference_value(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    want = igvm_launch_digest(parse_igvm(fake_igvm.typical()))
    document = json.loads("\n".join(measured(capsys, "--igvm", "file.igvm", "--json", "-o", "svsm.ref.json")))
    assert (document["launch_digest"], document["mode"]) == (want.hex(), "igvm")
    value = reference_from_bytes((folder / "svsm.ref.json").read_bytes())
    assert (value.name, value.launch_digest, value.recipe) == ("svsm", want, None)


def test_an_igvm_file_with_a_false_id_block_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    headers = [fake_igvm.platform(), fake_igvm.policy(), fake_igvm.page(0x1000), fake_igvm.id_block(bytes(48))]
    (folder / "bad.igvm").write_bytes(fake_igvm.image(headers))
    status, text = refused(capsys, "--igvm", "bad.igvm")
    assert status == 6
    assert "ID block states" in text


def test_the_steps_end_with_the_digest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = measured(capsys, "--firmware", "fw", *CPU)[0]
    lines = measured(capsys, "--firmware", "fw", *CPU, "--steps")
    assert lines[0] == plain
    assert lines[-1].endswith(plain)
    document = json.loads("\n".join(measured(capsys, "--firmware", "fw", *CPU, "--steps", "--json")))
    assert document["steps"][-1]["digest"] == plain


def test_the_vmsa_pages_are_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "out").mkdir()
    measured(capsys, "--firmware", "fw", *CPU, "--dump-vmsa", "out")
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["vmsa0.bin", "vmsa1.bin"]
    assert all(path.stat().st_size == 4096 for path in (folder / "out").iterdir())
    assert refused(capsys, "--firmware", "fw", *CPU, "--dump-vmsa", "nowhere")[0] == 8


def test_family_model_and_stepping_are_a_signature(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = ["--vcpu-family", "25", "--vcpu-model", "1", "--vcpu-stepping", "1"]
    by_name = measured(capsys, "--firmware", "fw", *CPU)[0]
    assert measured(capsys, "--firmware", "fw", "--vcpus", "2", *numbers)[0] == by_name
    assert refused(capsys, "--firmware", "fw", "--vcpus", "2", *numbers[:4])[0] == 2
    assert refused(capsys, "--firmware", "fw", "--vcpus", "2", *numbers, "--vcpu-sig", "a00f11")[0] == 2


@pytest.mark.parametrize(
    "argv",
    [
        ["--mode", "svsm", "--firmware", "fw", *CPU],
        ["--mode", "sev-es", "--firmware", "fw"],
        ["--mode", "sev"],
        ["--igvm", "file.igvm", "--firmware", "fw"],
        ["--igvm", "file.igvm", "--steps"],
        ["--igvm", "file.igvm", "--vcpus", "2"],
        ["--igvm", "file.igvm", "--mode", "snp"],
        ["--firmware", "fw", *CPU, "--native-zero"],
        ["--firmware", "fw", *CPU, "--svsm", "svsm"],
        ["--firmware", "fw", *CPU, "--mode", "sev", "--vars-size", "4096"],
        ["--mode", "sev", "--firmware", "fw", "-o", "ref.json"],
        ["--firmware", "fw", *CPU, "--steps", "-o", "ref.json"],
    ],
)
def test_options_that_contradict_each_other_are_a_usage_error(
    folder: Path, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    assert refused(capsys, *argv)[0] == 2


def test_what_an_svsm_launch_cannot_measure_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--mode", "svsm", "--firmware", "fw", "--svsm", "svsm", "--vars-size", "4096", *CPU]
    assert refused(capsys, *argv, "--kernel", "kernel")[0] == 3
    assert refused(capsys, "--mode", "sev", "--firmware", "fw", "--cmdline", "x")[0] == 3
    assert refused(capsys, *argv[:6], "--vars-file", "nowhere", *CPU)[0] == 3
