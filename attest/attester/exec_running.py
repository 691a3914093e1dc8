"""A command of ``cvm exec`` while it runs: with pipes, or on a terminal of its own (a pseudo-terminal, ``-t``).

On a terminal output and errors are one stream, the end of the input is the terminal's end-of-file character, and the
operator's window size is the terminal's. Sources: pty(7), tty_ioctl(4).
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import termios
from contextlib import suppress
from functools import partial
from pathlib import Path

from attest.attester import kernel
from attest.attester.exec_session import Request, Terminal
from policy.exec_channel import MAX_CHUNK, STDERR, STDOUT

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}
_PTS = Path("/dev/pts")
_END_OF_FILE = b"\x04"


class Command:
    """``outputs``: descriptors to read, with the kind of frame for what they give. All are non-blocking."""

    def __init__(
        self, process: subprocess.Popen[bytes], outputs: dict[int, int], to: int, terminal: int | None = None
    ) -> None:
        self.process = process
        self.outputs = outputs
        self._to = to
        self._terminal = terminal
        self._owned = {*outputs, to}
        for descriptor in self._owned:
            os.set_blocking(descriptor, False)

    def read(self, descriptor: int) -> bytes:
        """What it wrote; empty at the end, and then ``descriptor`` is no output any more."""
        try:
            data = os.read(descriptor, MAX_CHUNK)
        except BlockingIOError:
            raise
        except OSError:
            data = b""  # a terminal whose last user has gone gives EIO
        if not data:
            del self.outputs[descriptor]
        return data

    def write(self, waiting: bytearray) -> None:
        """As much of ``waiting`` as it takes now; all of it once it reads no more."""
        if self._to < 0:
            waiting.clear()
        try:
            while waiting:
                del waiting[: os.write(self._to, waiting[:MAX_CHUNK])]
        except BlockingIOError:
            return
        except OSError:
            waiting.clear()
            self.end_input()

    def end_input(self) -> None:
        """Nothing more will come."""
        if self._to < 0:
            return
        with suppress(OSError):
            if self._terminal is not None:
                os.write(self._to, _END_OF_FILE)
            else:
                os.close(self._to)
                self._owned.discard(self._to)
        self._to = -1

    def resize(self, rows: int, columns: int) -> None:
        """The operator's window has changed; without a terminal nothing happens."""
        if self._terminal is not None:
            set_size(self._terminal, rows, columns)

    def end(self) -> None:
        """Kill it with its process group and let go of its descriptors: what else is on its terminal is hung up."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for descriptor in self._owned:
            with suppress(OSError):
                os.close(descriptor)
        self._owned.clear()


def start(request: Request, root: Path | None = None) -> Command:
    """Inside ``root`` where there is one. Raises OSError, or ValueError for words that no program can be started with
    and for a root that has no ``/proc`` yet.
    """
    if root is not None and not (root / "proc/self").exists():
        raise ValueError("the root file system is not ready: the guest still opens disks and secrets")
    return _with_pipes(request, root) if request.terminal is None else _on_terminal(request, request.terminal, root)


def _with_pipes(request: Request, root: Path | None) -> Command:
    process = subprocess.Popen(
        list(request.argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd="/", env=ENVIRONMENT, start_new_session=True, preexec_fn=partial(_enter, root),
    )  # fmt: skip
    # Copies, so that nothing closes them behind our back when the object goes.
    pipes = [os.dup(pipe.fileno()) for pipe in (process.stdin, process.stdout, process.stderr) if pipe is not None]
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    to, out, err = pipes
    return Command(process, {out: STDOUT, err: STDERR}, to)


def _on_terminal(request: Request, terminal: Terminal, root: Path | None) -> Command:
    _mount_terminals(root)
    ours, theirs = os.openpty()
    try:
        set_size(ours, terminal.rows, terminal.columns)
        process = subprocess.Popen(
            list(request.argv), stdin=theirs, stdout=theirs, stderr=theirs, cwd="/",
            env={**ENVIRONMENT, "TERM": terminal.kind}, start_new_session=True,
            preexec_fn=partial(_take_terminal, root),
        )  # fmt: skip
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return Command(process, {ours: STDOUT}, ours, ours)


def _enter(root: Path | None) -> None:
    """In the child, where one thread runs: exec then looks for the program, its interpreter and libraries inside."""
    if root is not None:
        os.chroot(root)
        os.chdir("/")


def _take_terminal(root: Path | None) -> None:
    """In the new session's leader: its standard input is its controlling terminal, so that Ctrl-C is a signal, and one
    that is heard whatever started the agent left to be ignored.
    """
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    _enter(root)


def set_size(descriptor: int, rows: int, columns: int) -> None:
    """TIOCSWINSZ; whoever runs on the terminal gets SIGWINCH."""
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _mount_terminals(root: Path | None) -> None:
    """devpts, on first use: a guest without terminals need not have it. The same one inside ``root``, whose ``/dev``
    was bound before.
    """
    if not (_PTS / "ptmx").exists():
        _PTS.mkdir(exist_ok=True)
        kernel.mount(Path("devpts"), _PTS, "devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC, "mode=0620,ptmxmode=0666")
    if root is not None and not (root / "dev/pts/ptmx").exists():
        kernel.mount(_PTS, root / "dev/pts", "", kernel.MS_BIND, "")
