"""Join a terminal and a VM's console socket until the user types Ctrl-] or one side ends."""

from __future__ import annotations

import os
import select
import socket
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ESCAPE = b"\x1d"


def attach(console: socket.socket, source: int, sink: int, show: Callable[[bytes], bytes]) -> str:
    """Copy until the end; why it ended. ``source`` and ``sink`` are descriptors; ``show`` makes output presentable."""
    with _raw(source):
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
def _raw(source: int) -> Iterator[None]:
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
