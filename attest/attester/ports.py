"""Virtio-serial ports by name, without udev: the kernel tells each port's name in ``/sys/class/virtio-ports``.

Source: Linux, ``drivers/char/virtio_console.c`` (attribute ``name``); device nodes come from devtmpfs.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable
from pathlib import Path

SYS = Path("/sys/class/virtio-ports")
DEV = Path("/dev")


def find_port(name: str, *, sys: Path = SYS, dev: Path = DEV) -> Path | None:
    """The device node of the port called ``name``, or ``None``."""
    for entry in sorted(sys.glob("vport*")):
        try:
            found = (entry / "name").read_text("ascii", "replace").strip()
        except OSError:
            continue
        if found == name:
            return dev / entry.name
    return None


def wait_for_port(
    name: str, *, seconds: float, sys: Path = SYS, dev: Path = DEV, sleep: Callable[[float], None] = time.sleep
) -> Path | None:
    """As :func:`find_port`, but gives the driver up to ``seconds`` to find its device."""
    for _ in range(max(1, int(seconds / 0.05))):
        port = find_port(name, sys=sys, dev=dev)
        if port is not None and port.exists():
            return port
        sleep(0.05)
    return None


def write_all(fd: int, data: bytes, *, seconds: float = 5.0) -> None:
    """Write all of ``data`` to ``fd``, in as many pieces as the kernel likes.

    A non-blocking ``fd`` gets ``seconds`` to take each piece: nobody need listen at the other end of a port. Raises
    OSError.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            if not select.select([], [fd], [], seconds)[1]:
                raise TimeoutError(errno.ETIMEDOUT, f"nobody reads it within {seconds:g} s") from None
