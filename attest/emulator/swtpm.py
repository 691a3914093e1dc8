"""The software TPM behind an emulated TD: swtpm, a new one for every launch, SHA-384 its only bank.

Its control channel takes commands as swtpm's ``tpm_ioctl.h`` defines them: u32 big-endian, answered by a u32 result.
"""

from __future__ import annotations

import array
import os
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from attest.emulator.errors import EmulatorError
from attest.emulator.tpm_wire import HEADER, MAX_COMMAND

SECONDS = 60.0
_SET_DATAFD = 16
_ADMIN_PATH = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/local/sbin:/usr/sbin"


class Swtpm:
    """A running swtpm. ``control`` and ``data`` are our ends of its two channels."""

    def __init__(self, folder: Path) -> None:
        """Make a TPM in ``folder`` (which must be empty or absent) and start it."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _setup(folder)
        self.control, theirs = socket.socketpair()
        self.control.settimeout(SECONDS)
        argv = [
            _program("swtpm"), "socket", "--tpm2", "--tpmstate", f"dir={folder}",
            "--ctrl", f"type=unixio,clientfd={theirs.fileno()}", "--terminate",
        ]  # fmt: skip
        try:
            self.child = subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        except OSError as exc:
            raise EmulatorError(f"swtpm: {exc}") from None
        finally:
            theirs.close()
        self.data = self._open_data()

    def relay(self, request: bytes) -> bytes:
        """One control command as it stands; its answer, which always fits one message."""
        try:
            self.control.sendall(request)
            answer = self.control.recv(1 << 16)
        except OSError as exc:
            raise EmulatorError(f"swtpm: control channel: {exc}") from None
        if not answer:
            raise EmulatorError("swtpm: ended")
        return answer

    def execute(self, command: bytes) -> bytes:
        """One TPM command; the whole response."""
        try:
            self.data.sendall(command)
            return _message(self.data)
        except OSError as exc:
            raise EmulatorError(f"swtpm: data channel: {exc}") from None

    def close(self) -> None:
        """End it."""
        for channel in (self.control, self.data):
            channel.close()
        with suppress(OSError):
            self.child.terminate()
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def _open_data(self) -> socket.socket:
        """Our own data channel: what QEMU brings stays between QEMU and us."""
        ours, theirs = socket.socketpair()
        ours.settimeout(SECONDS)
        passed = array.array("i", [theirs.fileno()])
        try:
            self.control.sendmsg(
                [_SET_DATAFD.to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed.tobytes())]
            )
            answer = self.control.recv(4)
        except OSError as exc:
            raise EmulatorError(f"swtpm: control channel: {exc}") from None
        finally:
            theirs.close()
        if answer != bytes(4):
            raise EmulatorError(f"swtpm: refused its data channel: {answer.hex() or 'it ended'}")
        return ours


def _message(channel: socket.socket) -> bytes:
    data = _exactly(channel, HEADER.size)
    size = HEADER.unpack(data)[1]
    if not HEADER.size <= size <= MAX_COMMAND:
        raise EmulatorError(f"swtpm: response of {size} bytes, want at most {MAX_COMMAND}")
    return data + _exactly(channel, size - HEADER.size)


def _exactly(channel: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = channel.recv(count - len(data))
        if not part:
            raise EmulatorError("swtpm: ended")
        data += part
    return data


def _setup(folder: Path) -> None:
    argv = [
        _program("swtpm_setup"), "--tpm2", "--tpmstate", str(folder), "--pcr-banks", "sha384", "--overwrite",
    ]  # fmt: skip
    done = subprocess.run(
        argv, env={**os.environ, "PATH": _ADMIN_PATH}, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise EmulatorError(f"swtpm_setup: ended with {done.returncode}: {''.join(words)[:200]}")


def _program(name: str) -> str:
    found = shutil.which(name, path=_ADMIN_PATH)
    if found is None:
        raise EmulatorError(f"{name}: not installed", hint="install the package swtpm-tools (and swtpm)")
    return found
