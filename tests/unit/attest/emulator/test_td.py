"""An emulated TD signs what its TPM was seen to measure, and nothing else."""

from __future__ import annotations

import array
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha384
from pathlib import Path
from shutil import which

import pytest

from attest.collateral.intel_folder import IntelFolder
from attest.emulator.errors import EmulatorError
from attest.emulator.swtpm import Swtpm
from attest.emulator.td_chip import TdChip, TdLaunch
from attest.emulator.td_main import XFAM
from attest.emulator.td_registers import TdRegisters
from attest.emulator.td_state import TdKeys, load_or_make
from attest.emulator.td_tpm import WatchedTpm
from attest.emulator.tpm_wire import Extend, TpmMalformed, parse_extend, parse_pcr_read, pcr_read, refusal
from attest.endorsement.intel import IntelAnchors
from attest.evidence.chip_port import ChipPortMalformed, ErrorAnswer, answer_stream, question_stream
from attest.evidence.quote import parse_quote
from attest.evidence.td_port import (
    ExtendAnswer,
    ExtendRequest,
    QuoteAnswer,
    QuoteRequest,
    decode_td_answer,
    decode_td_request,
    encode_td_request,
)
from attest.verifier.quote import QuoteVerifier
from policy.vocab import LaunchDigest

NOW = datetime.now(UTC)
DATA = bytes(range(64))
STARTUP = bytes.fromhex("80010000000c000001440000")
MRTD = LaunchDigest(b"\x4d" * 48)
EMPTY_AUTH = bytes.fromhex("40000009" + "0000" + "00" + "0000")


def extend_command(pcr: int, digest: bytes, algorithm: int = 12) -> bytes:
    body = struct.pack(">II", pcr, len(EMPTY_AUTH)) + EMPTY_AUTH + struct.pack(">IH", 1, algorithm) + digest
    return struct.pack(">HII", 0x8002, 10 + len(body), 0x182) + body


def extended(*digests: bytes) -> bytes:
    value = bytes(48)
    for digest in digests:
        value = sha384(value + digest).digest()
    return value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("platform")


@pytest.fixture(scope="module")
def keys(folder: Path) -> TdKeys:
    return load_or_make(folder, NOW)


def chip(keys: TdKeys, registers: TdRegisters | None = None, version: int = 4) -> TdChip:
    return TdChip(keys, TdLaunch(MRTD, 1 << 28, XFAM), registers or TdRegisters(), lambda: None, version)


def test_a_pcr_extend_is_read_as_the_tpm_reads_it() -> None:
    assert parse_extend(extend_command(7, b"\x07" * 48)) == Extend(7, b"\x07" * 48)
    assert parse_extend(STARTUP) is None


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (extend_command(7, bytes(32), algorithm=11), "0 SHA-384 digests"),
        (extend_command(24, bytes(48)), "PCR 24"),
        (extend_command(7, bytes(48), algorithm=99), "hash algorithm 0x63"),
        (extend_command(7, bytes(48)) + b"\0", "says 81 bytes, has 82"),
        (b"\x80\x01", "want at least 10"),
        (extend_command(7, bytes(40)), "digest"),
    ],
)
def test_a_pcr_extend_that_does_not_parse_is_refused(command: bytes, says: str) -> None:
    with pytest.raises(TpmMalformed, match=says):
        parse_extend(command)


def test_every_pcr_has_the_register_intels_guide_gives_it() -> None:
    for pcr in range(24):
        registers = TdRegisters()
        registers.observe(Extend(pcr, bytes([pcr]) * 48))
        want = [bytes(48)] * 4
        if pcr in (1, 7):
            want[0] = extended(bytes([pcr]) * 48)
        elif 2 <= pcr <= 6:
            want[1] = extended(bytes([pcr]) * 48)
        elif 8 <= pcr <= 15 and pcr != 10:
            want[2] = extended(bytes([pcr]) * 48)
        assert registers.rtmrs == tuple(want), pcr


def test_pcrs_of_one_register_are_extended_in_the_order_they_came() -> None:
    registers = TdRegisters()
    for pcr in (7, 1, 7):
        registers.observe(Extend(pcr, bytes([pcr]) * 48))
    assert registers.rtmrs[0] == extended(b"\7" * 48, b"\1" * 48, b"\7" * 48)


@pytest.mark.parametrize("version", [4, 5])
def test_the_verifier_accepts_a_quote_with_the_collateral_of_the_folder(
    version: int, folder: Path, keys: TdKeys
) -> None:
    registers = TdRegisters()
    registers.observe(Extend(4, b"\4" * 48))
    registers.extend_rtmr3(b"\3" * 48)
    quote = parse_quote(chip(keys, registers, version).quote(DATA))
    collateral = IntelFolder(folder / "collateral").current()
    verifier = QuoteVerifier(IntelAnchors.test_only(keys.root.der))
    claims = verifier.verify(quote, collateral, now=NOW, expected_report_data=DATA)
    assert claims.tdx is not None
    assert claims.launch_digest == MRTD
    assert claims.tdx.rtmrs == (bytes(48), extended(b"\4" * 48), bytes(48), extended(b"\3" * 48))


def test_a_platform_keeps_its_keys_and_renews_its_collateral(folder: Path, keys: TdKeys) -> None:
    before = (folder / "collateral/tcb-info.json").read_bytes()
    again = load_or_make(folder, datetime.now(UTC))
    assert again.root_sha256 == keys.root_sha256
    assert again.pck.der == keys.pck.der
    assert (folder / "collateral/tcb-info.json").read_bytes() != before
    assert (folder / "root.key").stat().st_mode & 0o777 == 0o600


def test_keys_that_are_not_their_certificates_are_refused(tmp_path: Path) -> None:
    load_or_make(tmp_path, NOW)
    (tmp_path / "pck.key").write_bytes((tmp_path / "root.key").read_bytes())
    with pytest.raises(EmulatorError, match="pck: key and certificate do not belong together"):
        load_or_make(tmp_path, NOW)


def test_the_port_answers_quotes_extensions_and_nonsense(keys: TdKeys) -> None:
    def ask(data: bytes) -> object:
        (frame,) = question_stream().feed(data)
        (answer,) = answer_stream().feed(chip(keys).answer(frame))
        assert not isinstance(answer, ChipPortMalformed)
        return decode_td_answer(answer)

    assert isinstance(ask(encode_td_request(QuoteRequest(DATA))), QuoteAnswer)
    assert ask(encode_td_request(ExtendRequest(b"\1" * 48))) == ExtendAnswer(extended(b"\1" * 48))
    assert isinstance(ask(b"CVMq\x01\x01\0\0\0\0\0\0"), ErrorAnswer)
    assert isinstance(ask(b"CVMq\x01\x02\0\0\x01\0\0\0x"), ErrorAnswer)


def test_a_request_of_the_wrong_length_is_not_sent_and_not_read() -> None:
    with pytest.raises(ChipPortMalformed, match="got 3 bytes, want 64"):
        encode_td_request(QuoteRequest(b"abc"))
    (frame,) = question_stream().feed(b"CVMq\x01\x03\0\0\x02\0\0\0xy")
    assert not isinstance(frame, ChipPortMalformed)
    with pytest.raises(ChipPortMalformed, match="got 2 bytes, want 48"):
        decode_td_request(frame)


# With a real TPM ---------------------------------------------------------------------------------------------------


class Machine:
    """QEMU's side of a watched TPM."""

    def __init__(self, swtpm: Swtpm) -> None:
        self.registers = TdRegisters()
        self.tpm = WatchedTpm(swtpm, self.registers)
        self.control, self._control = socket.socketpair()
        self.data, theirs = socket.socketpair()
        passed = array.array("i", [theirs.fileno()])
        self.control.sendmsg([struct.pack(">I", 16)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed.tobytes())])
        channel = self.tpm.control(self._control)
        assert channel is not None
        self._data = channel
        assert self.control.recv(4) == bytes(4)
        theirs.close()

    def command(self, command: bytes) -> bytes:
        self.data.sendall(command)
        self.tpm.data(self._data)
        return self.data.recv(4096)

    def request(self, request: bytes) -> bytes:
        self.control.sendall(request)
        assert self.tpm.control(self._control) is None
        return self.control.recv(4096)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    if which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    with closing(Swtpm(tmp_path / "tpm")) as swtpm:
        made = Machine(swtpm)
        assert made.request(struct.pack(">II", 2, 0)) == bytes(4)
        assert made.command(STARTUP)[6:10] == bytes(4)
        yield made


def test_what_the_tpm_extends_is_seen_and_agrees_with_its_own_registers(machine: Machine) -> None:
    for pcr in (7, 2, 9):
        assert machine.command(extend_command(pcr, bytes([pcr]) * 48))[6:10] == bytes(4)
    zero = bytes(48)
    assert machine.registers.rtmrs == (extended(b"\7" * 48), extended(b"\2" * 48), extended(b"\x09" * 48), zero)
    machine.command(extend_command(10, b"\x0a" * 48))
    assert machine.registers.rtmrs[2] == extended(b"\x09" * 48)
    machine.tpm.check()
    assert parse_pcr_read(machine.command(pcr_read(2))) == extended(b"\2" * 48)


def test_an_extend_the_tpm_refuses_changes_no_register(machine: Machine) -> None:
    assert machine.command(extend_command(17, bytes(48)))[6:10] != bytes(4)
    assert machine.registers.rtmrs == (bytes(48),) * 4
    assert machine.registers.extends == 0


def test_registers_the_tpm_does_not_have_are_never_quoted(machine: Machine, keys: TdKeys) -> None:
    machine.registers.observe(Extend(7, b"\x66" * 48))
    quoting = TdChip(keys, TdLaunch(MRTD, 0, 3), machine.registers, machine.tpm.check)
    with pytest.raises(EmulatorError, match="PCR 7: the TPM has 0000"):
        quoting.quote(DATA)


def test_a_tpm_that_has_measured_is_not_started_again(machine: Machine) -> None:
    machine.command(extend_command(7, bytes(48)))
    with pytest.raises(EmulatorError, match="a TD cannot go back"):
        machine.request(struct.pack(">II", 2, 0))


@pytest.mark.parametrize("code", [0x13C, 0x185, 0x12B])
def test_commands_that_change_pcrs_unseen_do_not_exist(code: int, machine: Machine) -> None:
    command = struct.pack(">HII", 0x8001, 10, code)
    assert refusal(command) == machine.command(command) == struct.pack(">HII", 0x8001, 10, 0x143)


@pytest.mark.parametrize("code", [6, 7, 8, 10, 12, 13])
def test_a_foreign_state_never_reaches_the_tpm(code: int, machine: Machine) -> None:
    assert machine.request(struct.pack(">II", code, 0)) == struct.pack(">I", 9)


def test_a_command_in_two_pieces_is_one_command(machine: Machine) -> None:
    command = extend_command(7, bytes(48))
    machine.data.sendall(command[:20])
    machine.tpm.data(machine._data)
    assert machine.registers.extends == 0
    assert machine.command(command[20:])[6:10] == bytes(4)
    assert machine.registers.extends == 1
