"""The chip's socket: QEMU connects it to the guest's virtio-serial port. One question at a time, as the real mailbox
works.

Whatever a guest writes gets an answer or an error answer; nothing it writes ends the process or another guest's
connection.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from attest.emulator.chip import Chip
from attest.evidence.chip_port import (
    ChipPortMalformed,
    ErrorAnswer,
    Frame,
    FrameStream,
    ReportAnswer,
    decode_request,
    encode_answer,
    question_stream,
)

RECEIVE = 64 * 1024
# A guest that asks and never reads must not hold the chip for ever.
SEND_SECONDS = 20.0


class _Connection(NamedTuple):
    peer: socket.socket
    stream: FrameStream


def answer(chip: Chip, frame: Frame | ChipPortMalformed) -> bytes:
    """The bytes to send back for one frame, or for one stretch of bytes that is none."""
    if isinstance(frame, ChipPortMalformed):
        return encode_answer(ErrorAnswer(frame.message))
    try:
        request = decode_request(frame)
    except ChipPortMalformed as exc:
        return encode_answer(ErrorAnswer(exc.message))
    return encode_answer(ReportAnswer(chip.report(request), chip.certificates))


def serve(chip: Chip, listener: socket.socket, parent: int, log: Callable[[str], None]) -> None:
    """Answer until the file descriptor ``parent`` (standard input) is closed at its other end.

    ``listener`` is a listening unix socket.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ, None)
        selector.register(parent, selectors.EVENT_READ, None)
        while True:
            for key, _ in selector.select():
                if key.fd == parent:
                    if closed(parent):
                        return
                elif isinstance(key.data, _Connection):
                    if not _serve_one(chip, key.data, log):
                        selector.unregister(key.data.peer)
                        key.data.peer.close()
                else:
                    peer, _ = listener.accept()
                    peer.settimeout(SEND_SECONDS)
                    selector.register(peer, selectors.EVENT_READ, _Connection(peer, question_stream()))


def closed(parent: int) -> bool:
    """Whether the descriptor ``parent``, which is readable, has been closed at its other end."""
    import os

    with suppress(BlockingIOError):
        return not os.read(parent, 4096)
    return False


def _serve_one(chip: Chip, connection: _Connection, log: Callable[[str], None]) -> bool:
    """Read once and answer what is complete; false when the connection is over."""
    try:
        data = connection.peer.recv(RECEIVE)
        if not data:
            return False
        for frame in connection.stream.feed(data):
            log("refused a malformed request" if isinstance(frame, ChipPortMalformed) else "answered a request")
            connection.peer.sendall(answer(chip, frame))
    except OSError as exc:
        log(f"connection lost: {exc.strerror or exc}")
        return False
    return True
