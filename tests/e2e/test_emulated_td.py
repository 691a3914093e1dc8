"""The real guest image boots on real firmware; what it measured is what was predicted before it started."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha384
from pathlib import Path
from shutil import which
from typing import NamedTuple

import pytest

from attest.collateral.intel_folder import IntelFolder
from attest.emulator.td_state import load_or_make
from attest.endorsement.intel import IntelAnchors
from attest.evidence.chip_port import ChipPortMalformed, ErrorAnswer, answer_stream
from attest.evidence.quote import parse_quote
from attest.evidence.td_port import (
    ExtendAnswer,
    ExtendRequest,
    QuoteAnswer,
    QuoteRequest,
    decode_td_answer,
    encode_td_request,
)
from attest.verifier.quote import QuoteVerifier
from launcher.io.cachedir import cache_folder
from launcher.io.machine_probe import probe_machine
from launcher.io.toolchain import Toolchain, ToolchainMissing, find_toolchain
from ovmf.td_boot import DirectBoot
from ovmf.td_firmware import TdFirmware
from ovmf.td_kernel import DirectKernel
from ovmf.td_predict import Machine, TdMeasurement, predict_td
from policy.claims import VerifiedClaims
from policy.reference_tdx import FLAVOUR_EMULATED

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CMDLINE = "console=ttyS0 panic=-1 cvm.poweroff=1"
MEMORY = 512 << 20
DATA = bytes(range(64))


def machine_options(tools: Toolchain, image: Path) -> list[str]:
    return [
        *tools.qemu_argv, "-nodefaults", "-no-user-config", "-display", "none",
        "-machine", "q35,accel=tcg,smm=off,vmport=off,hpet=off,usb=off,sata=off,smbus=off,graphics=off",
        "-cpu", "EPYC-v4,phys-bits=46", "-smp", "2", "-m", f"{MEMORY >> 20}M",
        "-bios", f"{tools.firmware_dir}/OVMF.fd",
        "-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd.zst"), "-append", CMDLINE,
        "-device", "tpm-crb,tpmdev=tpm0", "-device", "virtio-serial-pci,disable-legacy=on,iommu_platform=on",
    ]  # fmt: skip


class Booted(NamedTuple):
    """A TD that has booted, with what was predicted. ``port`` is a connection to its chip."""

    port: socket.socket
    state: Path
    predicted: TdMeasurement
    ready: str

    def ask(self, request: QuoteRequest | ExtendRequest) -> QuoteAnswer | ExtendAnswer | ErrorAnswer:
        self.port.sendall(encode_td_request(request))
        stream = answer_stream()
        while True:
            for frame in stream.feed(self.port.recv(1 << 16)):
                assert not isinstance(frame, ChipPortMalformed)
                return decode_td_answer(frame)

    def claims(self) -> VerifiedClaims:
        """As a service sees them that was given the collateral and trusts this root."""
        answer = self.ask(QuoteRequest(DATA))
        assert isinstance(answer, QuoteAnswer), answer
        now = datetime.now(UTC)
        root = load_or_make(self.state, now).root.der
        collateral = IntelFolder(self.state / "collateral").current()
        verifier = QuoteVerifier(IntelAnchors.test_only(root))
        return verifier.verify(parse_quote(answer.quote), collateral, now=now, expected_report_data=DATA)


def predict(tools: Toolchain, image: Path) -> TdMeasurement:
    options = [*machine_options(tools, image), "-serial", "null"]
    shown = probe_machine(options, tools.env, tpm=True)
    files = DirectKernel(
        (image / "vmlinuz").read_bytes(), sha384((image / "initrd.zst").read_bytes()).digest(), CMDLINE.encode()
    )
    firmware = TdFirmware.from_bytes(Path(tools.firmware_dir, "OVMF.fd").read_bytes())
    machine = Machine(MEMORY, shown.acpi, shown.smbios, shown.fw_cfg)
    return predict_td(firmware, machine, DirectBoot(files), flavour=FLAVOUR_EMULATED)


def wait_until_booted(serial: Path, qemu: subprocess.Popen[bytes], word: bytes = b"agent started") -> None:
    """Until the console shows ``word``; a kernel that speaks has ended boot services."""
    deadline = time.monotonic() + 150
    while word not in (serial.read_bytes() if serial.exists() else b""):
        assert time.monotonic() < deadline, "the guest did not boot"
        assert qemu.poll() is None, "QEMU ended"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    image = cache_folder() / "image"
    if not (image / "manifest.json").is_file():
        pytest.skip("no guest image in the cache: `make test` builds it")
    if which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    try:
        tools = find_toolchain()
    except ToolchainMissing as exc:
        pytest.skip(exc.message)
    folder = tmp_path_factory.mktemp("td")
    predicted = predict(tools, image)
    argv = [
        sys.executable, "-m", "attest.emulator", "td", "--state", "state", "--socket", "chip.sock",
        "--tpm-socket", "tpm.sock", "--tpm-state", "tpm", "--firmware", f"{tools.firmware_dir}/OVMF.fd",
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    emulator = subprocess.Popen(argv, cwd=folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert emulator.stdin is not None
    assert emulator.stdout is not None
    assert select.select([emulator.stdout], [], [], 60)[0]
    ready = emulator.stdout.readline().decode()
    options = [
        *machine_options(tools, image),
        "-chardev", "socket,id=tpmchar0,path=tpm.sock", "-tpmdev", "emulator,id=tpm0,chardev=tpmchar0",
        "-serial", "file:serial.log", "-action", "reboot=shutdown",
    ]  # fmt: skip
    qemu = subprocess.Popen(options, cwd=folder, env={**os.environ, **tools.env}, stderr=subprocess.DEVNULL)
    try:
        wait_until_booted(folder / "serial.log", qemu)
        with socket.socket(socket.AF_UNIX) as port:
            port.connect(str(folder / "chip.sock"))
            port.settimeout(30)
            yield Booted(port, folder / "state", predicted, ready)
    finally:
        qemu.kill()
        qemu.wait()
        emulator.stdin.close()
        assert emulator.wait(20) == 0
        emulator.stdout.close()


def test_mrtd_and_the_registers_of_the_boot_are_those_predicted(booted: Booted) -> None:
    claims = booted.claims()
    assert claims.tdx is not None
    assert claims.launch_digest == booted.predicted.mrtd
    assert booted.ready.split()[1] == booted.predicted.mrtd.hex()
    assert claims.tdx.rtmrs[:3] == booted.predicted.rtmrs[:3]
    assert all(claims.tdx.rtmrs[:3])


def test_the_guest_extends_rtmr3_and_the_next_quote_says_so(booted: Booted) -> None:
    before = booted.claims()
    assert before.tdx is not None
    answer = booted.ask(ExtendRequest(b"\x11" * 48))
    want = sha384(before.tdx.rtmrs[3] + b"\x11" * 48).digest()
    assert answer == ExtendAnswer(want)
    after = booted.claims()
    assert after.tdx is not None
    assert after.tdx.rtmrs == (*before.tdx.rtmrs[:3], want)
