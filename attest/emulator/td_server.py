"""One thread for everything an emulated TD is asked: its port, its TPM's control channel and its TPM's data channel.

An error in the TPM's channels ends the emulator, and with it the VM: what it could no longer observe it will not sign.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable

from attest.emulator.server import RECEIVE, SEND_SECONDS, closed
from attest.emulator.td_chip import TdChip
from attest.emulator.td_tpm import WatchedTpm
from attest.evidence.chip_port import ChipPortMalformed, question_stream

Log = Callable[[str], None]
_Handler = Callable[[socket.socket], bool]


def serve_td(chip: TdChip, tpm: WatchedTpm, port: socket.socket, control: socket.socket, parent: int, log: Log) -> None:
    """Answer until the file descriptor ``parent`` is closed at its other end. ``port`` and ``control`` listen.

    QEMU has one TPM connection; a second one while it lasts is not accepted.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(parent, selectors.EVENT_READ, None)
        _accept(selector, port, lambda: _port_handler(chip, log))
        _accept(selector, control, lambda: _control_handler(selector, tpm), once=True)
        while True:
            for key, _ in selector.select():
                if key.fd == parent:
                    if closed(parent):
                        return
                elif not key.data(key.fileobj):
                    selector.unregister(key.fileobj)
                    if isinstance(key.fileobj, socket.socket):
                        key.fileobj.close()


def _accept(
    selector: selectors.BaseSelector, listener: socket.socket, make: Callable[[], _Handler], *, once: bool = False
) -> None:
    def accept(listener: socket.socket) -> bool:
        peer, _ = listener.accept()
        peer.settimeout(SEND_SECONDS)
        selector.register(peer, selectors.EVENT_READ, make())
        return not once

    selector.register(listener, selectors.EVENT_READ, accept)


def _control_handler(selector: selectors.BaseSelector, tpm: WatchedTpm) -> _Handler:
    def control(connection: socket.socket) -> bool:
        try:
            data = tpm.control(connection)
        except EOFError:
            return False
        if data is not None:
            data.settimeout(SEND_SECONDS)
            selector.register(data, selectors.EVENT_READ, commands)
        return True

    def commands(connection: socket.socket) -> bool:
        try:
            tpm.data(connection)
        except (EOFError, ConnectionError):
            return False
        return True

    return control


def _port_handler(chip: TdChip, log: Log) -> _Handler:
    stream = question_stream()

    def questions(connection: socket.socket) -> bool:
        try:
            data = connection.recv(RECEIVE)
            for frame in stream.feed(data):
                log("refused a malformed request" if isinstance(frame, ChipPortMalformed) else "answered a request")
                connection.sendall(chip.answer(frame))
        except OSError as exc:
            log(f"connection lost: {exc.strerror or exc}")
            return False
        return bool(data)

    return questions
