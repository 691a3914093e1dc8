"""Looking at a host that is a folder, and choosing a firmware."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from launcher.io import host as host_module
from launcher.io.firmware import described, find_firmware, inspect_firmware
from launcher.io.hashing import FileUnreadable
from launcher.io.host import probe_host
from ovmf.errors import FirmwareMalformed
from policy.vocab import Platform
from tests.fakes import firmware as fake


def epyc(root: Path) -> Path:
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(
        "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu svm sev sev_es sev_snp\n"
    )
    (root / "proc/meminfo").write_text("MemTotal:       1024 kB\nMemAvailable:    512 kB\n")
    (root / "sys/module/kvm_amd/parameters").mkdir(parents=True)
    (root / "sys/module/kvm_amd/parameters/sev_snp").write_text("Y\n")
    (root / "sys/fs/cgroup").mkdir(parents=True)
    (root / "sys/fs/cgroup/cgroup.controllers").write_text("cpu memory")
    (root / "sys/devices/system/cpu/smt").mkdir(parents=True)
    (root / "sys/devices/system/cpu/smt/active").write_text("1\n")
    (root / "dev").mkdir()
    (root / "dev/sev").touch()
    return root


def test_an_epyc_is_read(tmp_path: Path) -> None:
    facts = probe_host(epyc(tmp_path))
    assert facts.vendor == "AuthenticAMD"
    assert "sev_snp" in facts.flags
    assert (facts.memory_total, facts.memory_available) == (1 << 20, 512 << 10)
    assert (facts.sev_snp, facts.tdx, facts.cgroup_v2, facts.sev_device) == ("Y", None, True, "")
    assert facts.kvm.problem == "no /dev/kvm"
    assert facts.smt is True


def test_an_empty_machine_is_read_without_error(tmp_path: Path) -> None:
    facts = probe_host(tmp_path)
    assert (facts.vendor, facts.flags, facts.memory_total, facts.c_bit) == ("", frozenset(), None, None)
    assert (facts.sev_device, facts.smt) == ("no /dev/sev", None)


def test_a_file_in_place_of_kvm_is_no_kvm(tmp_path: Path) -> None:
    (epyc(tmp_path) / "dev/kvm").touch()
    assert "does not answer as KVM" in probe_host(tmp_path).kvm.problem


@pytest.mark.parametrize(
    ("version", "flags", "problem"),
    [(12, "svm", ""), (12, "", "neither svm nor vmx"), (11, "svm", "API version 11")],
)
def test_kvm_is_believed_only_with_the_processors_flag(
    version: int, flags: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = epyc(tmp_path)
    (root / "dev/kvm").touch()
    (root / "proc/cpuinfo").write_text(f"vendor_id : x\nflags : {flags}\n")
    answers = {0xAE00: version, 0xAE03: 0x11}
    monkeypatch.setattr(host_module.fcntl, "ioctl", lambda descriptor, request, argument: answers[request])
    kvm = probe_host(root).kvm
    assert problem in kvm.problem
    assert bool(problem) == bool(kvm.problem)
    assert kvm.vm_types == 0x11


def test_the_c_bit_is_read_from_cpuid(tmp_path: Path) -> None:
    root = epyc(tmp_path)
    (root / "dev/cpu/0").mkdir(parents=True)
    with (root / "dev/cpu/0/cpuid").open("wb") as file:
        file.truncate(0x80000040)
        file.seek(0x80000000)
        file.write(struct.pack("<4I", 0x80000028, 0, 0, 0))
        file.seek(0x8000001F)
        file.write(struct.pack("<4I", 0x0101FD3F, 0x4173, 0x1FD, 1))
    assert probe_host(root).c_bit == 51


def test_auto_takes_the_firmware_beside_qemu(tmp_path: Path) -> None:
    (tmp_path / "OVMF.amdsev.fd").write_bytes(fake.image())
    found = find_firmware("auto", Platform.SEV_SNP, tmp_path, boots_kernel=True)
    assert found is not None
    assert (found.path, found.measures_kernel) == (str(tmp_path / "OVMF.amdsev.fd"), True)
    assert found.hash_table_gpa is not None


def test_a_named_firmware_is_taken_and_must_parse_where_it_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "bios.bin"
    path.write_bytes(b"\0" * 8192)
    with pytest.raises(FirmwareMalformed):
        find_firmware(str(path), Platform.EMULATED_SNP, None, boots_kernel=True)
    plain = find_firmware(str(path), Platform.NONE, None, boots_kernel=True)
    assert plain is not None and not plain.measures_kernel
    with pytest.raises(FileUnreadable):
        inspect_firmware(str(tmp_path / "none"), "x", measured=True)


def test_an_ordinary_vm_needs_a_file_only_to_boot_a_disk(tmp_path: Path) -> None:
    assert find_firmware("auto", Platform.NONE, tmp_path, boots_kernel=True) is None
    assert find_firmware("auto", Platform.NONE, tmp_path, boots_kernel=False) is None
    (tmp_path / "OVMF.fd").write_bytes(fake.image())
    found = find_firmware("auto", Platform.NONE, tmp_path, boots_kernel=False)
    assert found is not None and found.path.endswith("OVMF.fd")


def test_descriptors_are_read_in_qemus_order_and_an_empty_one_hides(tmp_path: Path) -> None:
    etc, usr = tmp_path / "etc", tmp_path / "usr"
    etc.mkdir()
    usr.mkdir()
    firmware = tmp_path / "fw.fd"
    firmware.touch()
    good = {"mapping": {"device": "memory", "filename": str(firmware)}, "features": ["amd-sev", "amd-sev-snp"]}
    (usr / "60-good.json").write_text(json.dumps(good))
    (usr / "50-hidden.json").write_text(json.dumps(good))
    (etc / "50-hidden.json").touch()
    (usr / "40-flash.json").write_text(json.dumps(good | {"mapping": {"device": "flash"}}))
    (usr / "41-tdx.json").write_text(json.dumps(good | {"features": ["intel-tdx"]}))
    (usr / "42-gone.json").write_text(json.dumps(good | {"mapping": {"device": "memory", "filename": "/none"}}))
    (usr / "43-broken.json").write_text("[1")
    assert described((etc, usr, tmp_path / "none")) == [(str(firmware), "60-good.json")]
