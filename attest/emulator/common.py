"""What both emulated platforms need of the machine: a socket, a file, lines on standard output and error."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from attest.emulator.errors import EmulatorError
from attest.files import read_at_most


def listen(path: Path) -> socket.socket:
    """A listening unix socket at ``path``, for its owner only; one left over by a dead process is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.unlink(missing_ok=True)
        mask = os.umask(0o077)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen(4)
    except OSError as exc:
        listener.close()
        raise EmulatorError(f"emulated chip: cannot listen on {path}: {exc}") from None
    return listener


def read_limited(path: Path, limit: int) -> bytes:
    """A file of at most ``limit`` bytes."""
    try:
        return read_at_most(path, limit)
    except OSError as exc:
        raise EmulatorError(f"emulated chip: {path}: {exc.strerror}") from None


def integer(text: str, base: int, bits: int) -> int:
    """An option's unsigned integer of ``bits`` bits."""
    try:
        value = int(text, base)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << bits:
        raise argparse.ArgumentTypeError(f"{text!r}: want an integer of {bits} bits")
    return value


def print_line(line: str) -> None:
    """One line for whoever started us, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def log(text: str) -> None:
    """One line for people, on standard error."""
    sys.stderr.write(f"attest.emulator: {text}\n")
    sys.stderr.flush()
