"""Looking at a machine over qtest: what QEMU answers is believed only when it is an answer."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from launcher.errors import QemuFailed
from launcher.io.machine_probe import probe_machine
from launcher.io.qtest import MAX_FILE, Qtest
from launcher.io.toolchain import Toolchain, ToolchainMissing, find_toolchain

NO_QEMU = "import sys; sys.exit('qemu-system-x86_64: no such machine')"


@pytest.fixture
def tools() -> Toolchain:
    try:
        return find_toolchain()
    except ToolchainMissing as exc:
        pytest.skip(exc.message)


def answering(*answers: bytes) -> tuple[Qtest, threading.Thread]:
    """A connection whose other end gives ``answers``, one for each line, then ends."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs, theirs.makefile("rb") as lines:
            for answer in answers:
                lines.readline()
                theirs.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return Qtest(ours), thread


def test_interrupts_between_an_answer_are_passed_over() -> None:
    qtest, thread = answering(b"IRQ raise 9\nOK\n", b"OK 0x8086\n")
    with qtest:
        assert qtest.pci_read((0, 0), 0) == 0x8086
    thread.join()


@pytest.mark.parametrize(("answer", "says"), [(b"FAIL unknown\n", "FAIL unknown"), (b"", "it ended")])
def test_a_failure_is_told_in_qemus_words(answer: bytes, says: str) -> None:
    qtest, thread = answering(answer)
    with qtest, pytest.raises(QemuFailed, match=says):
        qtest.out32(0x514, 0)
    thread.join()


def test_a_short_read_is_refused() -> None:
    qtest, thread = answering(b"OK\n", b"OK\n", b"OK\n", b"OK 0x0102\n")
    with qtest, pytest.raises(QemuFailed, match="2 bytes, want 4"):
        qtest.item(0x19, 4)
    thread.join()


@pytest.mark.parametrize("answer", [b"OK\n", b"OK 0xnonsense\n"])
def test_an_answer_that_is_no_number_is_refused(answer: bytes) -> None:
    qtest, thread = answering(b"OK\n", answer)
    with qtest, pytest.raises(QemuFailed, match="want hexadecimal"):
        qtest.pci_read((0, 0), 0)
    thread.join()


def test_a_file_of_absurd_size_is_not_read() -> None:
    qtest, thread = answering()
    with qtest, pytest.raises(QemuFailed, match="want at most"):
        qtest.item(0x20, MAX_FILE + 1)
    thread.join()


def test_a_directory_of_absurd_length_is_refused() -> None:
    qtest, thread = answering(b"OK\n", b"OK\n", b"OK\n", b"OK 0xffffffff\n")
    with qtest, pytest.raises(QemuFailed, match="4294967295 files"):
        qtest.directory()
    thread.join()


def test_a_qemu_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    program = tmp_path / "qemu.py"
    program.write_text(NO_QEMU)
    with pytest.raises(QemuFailed, match="no such machine"):
        probe_machine((sys.executable, str(program)), {}, tpm=False)


def test_without_swtpm_a_machine_with_a_tpm_is_not_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(QemuFailed, match=r"swtpm: .*No such file"):
        probe_machine((sys.executable, "-c", NO_QEMU), {}, tpm=True)


def test_a_qemu_that_answers_a_byte_at_a_time_or_never_is_left_in_time() -> None:
    for word in (b"", b"O", b"IRQ raise 1\n"):
        ours, theirs = socket.socketpair()

        def dribble(end: socket.socket, word: bytes) -> None:
            with end, contextlib.suppress(OSError):
                while word:
                    end.sendall(word)
                    time.sleep(0.02)
                end.recv(64)
                end.recv(64)

        thread = threading.Thread(target=dribble, args=(theirs, word))
        thread.start()
        before = time.monotonic()
        with Qtest(ours, seconds=0.3) as qtest, pytest.raises(QemuFailed, match=r"timed out|no time left"):
            qtest.out32(0x514, 0)
        assert time.monotonic() - before < 5
        thread.join()


def test_a_line_that_never_ends_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.io.qtest._MAX_LINE", 1000)
    qtest, thread = answering(b"O" * 4000)
    with qtest, pytest.raises(QemuFailed, match="more than 1000 bytes"):
        qtest.out32(0x514, 0)
    thread.join()


@pytest.mark.qemu
def test_firmware_with_smm_is_shown_tables_that_say_how_cpus_are_plugged(tools: Toolchain) -> None:
    argv = (
        *tools.qemu_argv,
        "-nodefaults",
        "-display",
        "none",
        "-machine",
        "q35,accel=tcg",
        "-cpu",
        "qemu64,phys-bits=46",
    )
    plain, agreed = (
        probe_machine(argv, tools.env, tpm=False, smm=smm).acpi["etc/acpi/tables"] for smm in (False, True)
    )
    assert b"SMIR" in agreed
    assert b"SMIR" not in plain


@pytest.mark.qemu
def test_a_machine_that_offers_no_smi_features_is_none_for_firmware_with_smm(tools: Toolchain) -> None:
    features = ("x-smi-broadcast", "x-smi-cpu-hotplug", "x-smi-cpu-hotunplug")
    options = [word for name in features for word in ("-global", f"ICH9-LPC.{name}=off")]
    argv = (*tools.qemu_argv, "-nodefaults", "-display", "none", "-machine", "q35,accel=tcg", *options)
    with pytest.raises(QemuFailed, match="offers no SMI features"):
        probe_machine(argv, tools.env, tpm=False, smm=True)
