"""The launcher's own control socket: one request line in, one answer line out, for verbs that change a running VM.

Not QEMU's monitor: its socket serves one client, the supervisor, which therefore carries requests out. Only the
VM's owner can open the socket (0600, not for QEMU's user); lines and waiting are bounded all the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable

from launcher.core.names import CONTROL_SOCKET
from launcher.errors import StateUnusable, WrongState
from launcher.io.sockets import connect
from policy.errors import CvmError, MalformedInput
from policy.named import NamedTuple
from policy.strictjson import strict_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_LINE = 1 << 16
MAX_ANSWER = 8 << 20
"""QEMU can be asked for its whole schema."""
PATIENCE = 25.0
"""Seconds that a launcher has: QEMU's, and its own."""
_READING = 1.0
"""Seconds a client has to take its answer."""


class ControlMalformed(MalformedInput):
    """A line on the control socket that is none of ours."""

    code = "control.malformed"


class Request(NamedTuple):
    """One command: a word, and what it is about."""

    word: str
    about: dict[str, object]


class ControlPort:
    """The launcher's end. ``act`` carries out one command or raises `CvmError`; its answer goes back as it is."""

    def __init__(self, folder: str, act: Callable[[Request], dict[str, object]]) -> None:
        self._act = act
        self._socket = _listen(folder)

    def fileno(self) -> int:
        """For select: readable when somebody wants something."""
        return self._socket.fileno()

    def serve(self) -> None:
        """Answer one waiting client. It has 0.2 s for its line: whoever connects has it ready."""
        try:
            client, _ = self._socket.accept()
        except OSError:
            return
        with client, contextlib.suppress(OSError):
            client.settimeout(0.2)
            answer = self._answer(_read_line(client))
            client.settimeout(_READING)
            client.sendall(json.dumps(answer).encode("ascii") + b"\n")

    def close(self) -> None:
        """Let go; the file is removed with the other sockets."""
        self._socket.close()

    def _answer(self, line: bytes) -> dict[str, object]:
        try:
            return {"ok": True, "answer": self._act(parse_request(line))}
        except CvmError as exc:
            return {"ok": False, "code": exc.code, "message": exc.message}


def parse_request(line: bytes) -> Request:
    """One request line ``{"v":1,"do":WORD,"about":{…}}``, the last of which may be absent; or `ControlMalformed`."""
    document = strict_json(line, "control request", max_bytes=MAX_LINE, error=ControlMalformed)
    if not isinstance(document, dict) or set(document) - {"about"} != {"v", "do"} or document["v"] is True:
        raise ControlMalformed('control request: want {"v":1,"do":WORD}')
    about = document.get("about", {})
    if document["v"] != 1 or not isinstance(about, dict):
        raise ControlMalformed("control request: want v 1, and about as an object")
    word = document["do"]
    if not isinstance(word, str) or not word.isascii() or not word.isalpha():
        raise ControlMalformed("control request: do: want a word")
    return Request(word, about)


def ask(
    folder: str, name: str, word: str, about: dict[str, object] | None = None, *, seconds: float = PATIENCE
) -> dict[str, Any]:
    """Have the launcher of VM ``name`` do ``word``; its answer. Raises :class:`WrongState` when nobody listens, or
    answers within ``seconds``.
    """
    try:
        client = connect(folder, CONTROL_SOCKET)
    except OSError:
        raise WrongState(f"VM {name}: its launcher takes no commands (yet, or any more)", hint="cvm ps") from None
    with client:
        client.settimeout(seconds)
        try:
            client.sendall(json.dumps({"v": 1, "do": word, "about": about or {}}).encode("ascii") + b"\n")
            line = _read_line(client, MAX_ANSWER)
        except OSError as exc:
            raise WrongState(f"VM {name}: its launcher gave no answer: {exc}", hint="cvm ps") from None
    document = strict_json(line, "control answer", max_bytes=MAX_ANSWER, error=ControlMalformed)
    if not isinstance(document, dict) or not isinstance(document.get("ok"), bool):
        raise ControlMalformed("control answer: want an object with ok")
    if not document["ok"]:
        raise WrongState(f"VM {name}: {document.get('message')}", hint="cvm ps")
    answer = document.get("answer")
    return answer if isinstance(answer, dict) else {}


def _read_line(client: socket.socket, most: int = MAX_LINE) -> bytes:
    data = bytearray()
    while b"\n" not in data and len(data) <= most:
        piece = client.recv(MAX_LINE)
        if not piece:
            break
        data += piece
    return bytes(data.partition(b"\n")[0])


def _listen(folder: str) -> socket.socket:
    """``sun_path`` holds 107 bytes, so a descriptor names the folder."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(CONTROL_SOCKET, dir_fd=descriptor)
        server.bind(f"/proc/self/fd/{descriptor}/{CONTROL_SOCKET}")
        os.chmod(CONTROL_SOCKET, 0o600, dir_fd=descriptor)  # QEMU's user may have a place in this folder
        server.listen(4)
    except OSError as exc:
        server.close()
        raise StateUnusable(f"{folder}/{CONTROL_SOCKET}: {exc.strerror}") from None
    finally:
        os.close(descriptor)
    return server
