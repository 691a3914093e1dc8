"""The launcher's side of an emulated TD: the real emulator and a real TPM, no QEMU."""

from __future__ import annotations

import array
import os
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

from attest.evidence.chip_port import ChipPortMalformed, answer_stream
from attest.evidence.quote import Quote, parse_quote
from attest.evidence.td_port import QuoteAnswer, QuoteRequest, decode_td_answer, encode_td_request
from attest.evidence.td_report import TdReportBody
from launcher.core.plan import LaunchPlan, make_plan
from launcher.core.vm import TdxSettings
from launcher.errors import EmulatorFailed
from launcher.io.emulator import Emulator, start_emulator
from launcher.io.process import end
from launcher.io.statedir import VmDir
from ovmf.td_firmware import TdFirmware
from tests.fakes.td_images import td_image
from tests.fakes.vm_files import GENERIC, around, web_1
from tests.until import until

SETTINGS = TdxSettings(pks=True, mrconfigid=b"\1" * 48, mrowner=b"\2" * 48, mrownerconfig=b"\3" * 48)
SET_DATAFD, INIT = struct.pack(">I", 16), struct.pack(">II", 2, 0)
STARTUP = struct.pack(">HIIH", 0x8001, 12, 0x144, 0)


@pytest.fixture
def plan(tmp_path: Path) -> LaunchPlan:
    if which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    image = tmp_path / "OVMF.fd"
    image.write_bytes(td_image())
    config = web_1("emulated-tdx")._replace(tdx=SETTINGS, emulator_state=str(tmp_path / "platform"))
    return make_plan(config, around(firmware=GENERIC._replace(path=str(image)), swtpm=True))


@pytest.fixture
def vm(tmp_path: Path) -> VmDir:
    found = VmDir(str(tmp_path / "state"), "web-1")
    found.create()
    return found


@pytest.fixture
def emulator(plan: LaunchPlan, vm: VmDir) -> Iterator[Emulator]:
    started = start(plan, vm)
    yield started
    end(started.child)


def start(plan: LaunchPlan, vm: VmDir) -> Emulator:
    with open(vm.file("emulator.log"), "wb") as log:
        return start_emulator(plan, vm, log)


def group(leader: int) -> set[int]:
    """The processes of a session that have not ended."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if entry.name.isdigit() and int(fields[3]) == leader and fields[0] not in "ZX":
            found.add(int(entry.name))
    return found


def ends(leader: int) -> None:
    until(lambda: not group(leader), "every process of the group has ended")


def quote(vm: VmDir) -> Quote:
    """Start the TPM as QEMU and the firmware do, then ask for a quote as the guest does."""
    with socket.socket(socket.AF_UNIX) as control, socket.socket(socket.AF_UNIX) as port:
        control.connect(vm.file("tpm.sock"))
        data, theirs = socket.socketpair()
        passed = array.array("i", [theirs.fileno()])
        control.sendmsg([SET_DATAFD], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed.tobytes())])
        theirs.close()
        assert control.recv(4) == bytes(4)
        control.sendall(INIT)
        assert control.recv(4) == bytes(4)
        with data:
            data.sendall(STARTUP)
            assert data.recv(64)[6:10] == bytes(4)
            port.connect(vm.file("emulator.sock"))
            port.sendall(encode_td_request(QuoteRequest(bytes(64))))
            stream = answer_stream()
            while not (frames := list(stream.feed(port.recv(1 << 16)))):
                pass
    assert not isinstance(frames[0], ChipPortMalformed)
    answer = decode_td_answer(frames[0])
    assert isinstance(answer, QuoteAnswer), answer
    return parse_quote(answer.quote)


def test_quotes_of_an_emulated_td_show_what_the_vm_file_says(plan: LaunchPlan, vm: VmDir, emulator: Emulator) -> None:
    image = Path(str(plan.spec.firmware)).read_bytes()
    assert emulator.launch_digest == TdFirmware.from_bytes(image).mrtd().hex()
    body = quote(vm).body
    assert isinstance(body, TdReportBody)
    assert body.mrtd.hex() == emulator.launch_digest
    assert (body.mrconfigid, body.mrowner, body.mrownerconfig) == (b"\1" * 48, b"\2" * 48, b"\3" * 48)
    assert body.td_attributes == 1 << 28 | 1 << 30


def test_ending_an_emulated_td_ends_its_tpm(emulator: Emulator) -> None:
    assert len(group(emulator.child.pid)) == 2
    end(emulator.child)
    ends(emulator.child.pid)


def test_the_tpm_of_an_emulated_td_that_is_killed_ends_by_itself(emulator: Emulator) -> None:
    os.kill(emulator.child.pid, signal.SIGKILL)
    ends(emulator.child.pid)


def test_every_launch_has_a_new_tpm(plan: LaunchPlan, vm: VmDir, emulator: Emulator) -> None:
    end(emulator.child)
    before = {item.name: item.read_bytes() for item in Path(vm.file("tpm")).iterdir() if item.is_file()}
    vm.clear()
    assert not Path(vm.file("tpm")).exists()
    again = start(plan, vm)
    try:
        assert again.root == emulator.root
        assert {item.name: item.read_bytes() for item in Path(vm.file("tpm")).iterdir() if item.is_file()} != before
    finally:
        end(again.child)


def test_an_emulated_td_that_does_not_start_says_why(plan: LaunchPlan, vm: VmDir) -> None:
    Path(str(plan.spec.firmware)).write_bytes(bytes(4096))
    with pytest.raises(EmulatorFailed, match=r"emulated chip: did not start: .*firmware"):
        start(plan, vm)
