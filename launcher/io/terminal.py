"""The user's terminal: joined to a VM's console socket until Ctrl-], or lent to a command inside a guest."""

from __future__ import annotations

import os
import select
import signal
import socket
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

ESCAPE = b"\x1d"


def attach(console: socket.socket, source: int, sink: int, show: Callable[[bytes], bytes]) -> str:
    """Copy until the end; why it ended. ``source`` and ``sink`` are descriptors; ``show`` makes output presentable."""
    with raw(source):
        waiting: list[int] = [console.fileno(), source]
        while True:
            ready = select.select(waiting, [], [])[0]
            if console.fileno() in ready:
                data = console.recv(1 << 14)
                if not data:
                    return "the VM has ended"
                _write(sink, show(data))
            if source in ready:
                typed = os.read(source, 1 << 12)
                if not typed:
                    waiting.remove(source)  # input is at its end; go on listening
                    continue
                before, escape, _ = typed.partition(ESCAPE)
                console.sendall(before)
                if escape:
                    return "detached"


@contextmanager
def raw(source: int) -> Iterator[None]:
    """Every key goes to the guest, while it is a terminal."""
    if not os.isatty(source):
        yield
        return
    before = termios.tcgetattr(source)
    try:
        tty.setraw(source)
        yield
    finally:
        termios.tcsetattr(source, termios.TCSADRAIN, before)


def _write(sink: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]


@contextmanager
def window_changes() -> Iterator[int]:
    """A descriptor that can be read whenever this terminal's window has got another size (SIGWINCH)."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def changed(_number: int, _frame: object) -> None:
        with suppress(BlockingIOError):  # full: it is known already
            os.write(writing, b"w")

    before = signal.signal(signal.SIGWINCH, changed)
    try:
        yield reading
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(reading)
        os.close(writing)


def window_size() -> tuple[int, int]:
    """(rows, columns) of the terminal that standard output is."""
    found = os.get_terminal_size(1)
    return found.lines, found.columns
