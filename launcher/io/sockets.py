"""Connect to a unix socket in a state folder, however long that folder's path is."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable


def connect(folder: str, name: str) -> socket.socket:
    """A connected stream socket. ``sun_path`` holds 107 bytes, so a descriptor names the folder. Raises OSError."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        client.connect(f"/proc/self/fd/{descriptor}/{name}")
    except OSError:
        client.close()
        raise
    finally:
        os.close(descriptor)
    return client


def connect_soon(folder: str, name: str, *, seconds: float, alive: Callable[[], bool]) -> socket.socket | None:
    """As :func:`connect`, but waits up to ``seconds`` for the other side to listen, as long as it is ``alive``."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return connect(folder, name)
        except (FileNotFoundError, ConnectionRefusedError):
            if not alive() or time.monotonic() > deadline:
                return None
            time.sleep(0.003)  # QEMU listens some 30 ms after its start
