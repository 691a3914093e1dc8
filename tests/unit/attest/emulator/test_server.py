"""Whatever a guest writes, the chip answers or says why not, and goes on."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.attester.emulated import converse
from attest.attester.errors import EvidenceUnavailable
from attest.emulator.server import serve
from attest.emulator.state import load_or_make
from attest.evidence.chip_port import (
    ErrorAnswer,
    Frame,
    ReportAnswer,
    ReportRequest,
    answer_stream,
    decode_answer,
    encode_request,
    question_stream,
)
from tests.fakes.firmware import image
from tests.fakes.guest import chip

DATA = bytes(range(64))


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """A chip that serves on a socket until its parent's pipe is closed."""
    path = str(folder / "chip.sock")
    reader, writer = os.pipe()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=serve, args=(chip(), listener, reader, lambda text: None))
        thread.start()
        try:
            yield path
        finally:
            os.close(writer)
            thread.join(10)
            os.close(reader)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("chip")) as path:
        yield path


@contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(address)
        peer.settimeout(5)
        yield peer


def test_a_question_gets_a_report_about_it(address: str) -> None:
    with connected(address) as peer:
        evidence = converse(peer.fileno(), DATA)
    assert evidence.report[0x50:0x90] == DATA
    assert len(evidence.report) == 1184
    assert evidence.source == "emulated"


def test_many_questions_on_one_connection(address: str) -> None:
    with connected(address) as peer:
        for number in range(5):
            asked = bytes([number]) * 64
            assert converse(peer.fileno(), asked).report[0x50:0x90] == asked


def test_a_question_in_pieces_is_answered_once_it_is_whole(address: str) -> None:
    with connected(address) as peer:
        for byte in encode_request(ReportRequest(DATA))[:-1]:
            peer.sendall(bytes([byte]))
        assert not select.select([peer], [], [], 0.05)[0]
        peer.sendall(DATA[-1:])
        assert peer.recv(4) == b"CVMa"


@pytest.mark.parametrize(
    "damage",
    [
        b"hello\n",
        b"CVMq\x02\x01\x00\x00\x04\x00\x00\x00",
        b"CVMq\x01\x01\x00\x00\xff\xff\xff\xff",
        b"CVMq\x01\x09\x00\x00\x00\x00\x00\x00",
        b"CVMq\x01\x01\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00",
        encode_request(ReportRequest(DATA, 0))[:12] + b"\x09" + bytes(67),
    ],
    ids=["text", "a later version", "a huge length", "another kind", "a short body", "VMPL 9"],
)
def test_damage_gets_an_error_answer_and_the_next_question_an_answer(address: str, damage: bytes) -> None:
    stream, answers = answer_stream(), []
    with connected(address) as peer:
        peer.sendall(damage + encode_request(ReportRequest(DATA)))
        while len(answers) < 2:
            answers += [decode_answer(frame) for frame in stream.feed(peer.recv(65536)) if isinstance(frame, Frame)]
    first, second = answers
    assert isinstance(first, ErrorAnswer)
    assert isinstance(second, ReportAnswer)
    assert second.report[0x50:0x90] == DATA


def test_the_guest_reports_what_the_chip_refuses(address: str) -> None:
    with connected(address) as peer:
        peer.sendall(b"hello\n")
        with pytest.raises(EvidenceUnavailable, match="emulated chip refused: chip port: 68656c6c6f0a"):
            converse(peer.fileno(), DATA)


@given(st.lists(st.binary(max_size=200), max_size=5))
@settings(max_examples=40, deadline=None)
def test_no_bytes_end_the_chip(address: str, pieces: list[bytes]) -> None:
    with connected(address) as peer:
        for piece in pieces:
            peer.sendall(piece)
    with connected(address) as peer:
        assert converse(peer.fileno(), DATA).report[0x50:0x90] == DATA


def test_a_guest_that_hangs_up_does_not_end_the_chip(address: str) -> None:
    for _ in range(3):
        with connected(address) as peer:
            peer.sendall(encode_request(ReportRequest(DATA)))
    with connected(address) as peer:
        assert converse(peer.fileno(), DATA)


def test_a_chip_that_closes_the_port_or_says_nothing_is_a_failure_in_the_guest() -> None:
    guest, host = socket.socketpair()
    with guest, host:
        with pytest.raises(EvidenceUnavailable, match=r"no answer within 0\.05 s"):
            converse(guest.fileno(), DATA, seconds=0.05)
        host.close()
        with pytest.raises((EvidenceUnavailable, OSError)):
            converse(guest.fileno(), DATA, seconds=1)


def test_the_stream_keeps_no_more_than_one_frame() -> None:
    stream = question_stream()
    for _ in range(100):
        stream.feed(b"x" * 65536)
    assert len(stream._buffer) < 16


def _command(state: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "attest.emulator", "--state", str(state), *more]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state") / "chip"
    done = subprocess.run(_command(folder, "--init"), capture_output=True, text=True, check=True)
    assert done.stdout == f"root {load_or_make(folder, _now()).root_sha256}\n"
    return folder


def _now() -> datetime:
    return datetime.now(UTC)


def test_the_folder_keeps_one_chip_and_private_keys_private(state: Path) -> None:
    again = subprocess.run(_command(state, "--init"), capture_output=True, text=True, check=True)
    assert again.stdout.split()[1] == load_or_make(state, _now()).root_sha256
    assert {path.name: path.stat().st_mode & 0o777 for path in state.glob("*.key")} == {
        "ark.key": 0o600,
        "vcek.key": 0o600,
    }
    assert state.stat().st_mode & 0o777 == 0o700


def test_the_process_listens_measures_and_ends_with_its_parent(state: Path, tmp_path: Path) -> None:
    firmware, where = tmp_path / "fw.fd", tmp_path / "s.sock"
    firmware.write_bytes(image())
    options = ("--socket", str(where), "--firmware", str(firmware), "--vcpus", "1", "--cpu-model", "EPYC-v4")
    process = subprocess.Popen(_command(state, *options), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    word, digest, root_word, root = process.stdout.readline().split()
    assert (word, root_word, len(digest)) == ("ready", "root", 96)
    assert root == load_or_make(state, _now()).root_sha256
    assert where.stat().st_mode & 0o777 == 0o700
    with connected(str(where)) as peer:
        assert converse(peer.fileno(), DATA).report[0x90:0xC0].hex() == digest
    process.stdin.close()
    assert process.wait(10) == 0
    process.stdout.close()
    assert not where.exists()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "missing --socket --firmware --vcpus"),
        (("--socket", "s", "--firmware", "f", "--vcpus", "1"), 2, "one of --cpu-model and --vcpu-sig"),
        (("--socket", "s", "--firmware", "f", "--vcpus", "0", "--cpu-model", "EPYC-v4"), 2, "want 1 to 4096"),
        (("--socket", "s", "--firmware", "/nowhere", "--vcpus", "1", "--cpu-model", "EPYC-v4"), 9, "/nowhere"),
        (("--init", "--host-data", "00"), 2, "64 hexadecimal digits"),
        (("--init", "--policy", "0x10000000000000000"), 2, "64 bits"),
    ],
)
def test_wrong_usage_is_said_and_has_its_exit_code(state: Path, options: tuple[str, ...], code: int, said: str) -> None:
    done = subprocess.run(
        _command(state, *options), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_folder_is_said_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "chip"
    folder.mkdir()
    for name in ("ark.key", "vcek.key", "ark.pem", "ask.pem", "vcek.pem"):
        (folder / name).write_text("nonsense")
    done = subprocess.run(_command(folder, "--init"), capture_output=True, text=True, check=False)
    assert (done.returncode, "Remove the folder" in done.stderr) == (9, True)
    assert "Traceback" not in done.stderr


def test_two_processes_that_start_at_once_make_one_chip(tmp_path: Path) -> None:
    started = [
        subprocess.Popen(_command(tmp_path / "chip", "--init"), stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    roots = {process.communicate(timeout=120)[0] for process in started}
    assert len(roots) == 1
