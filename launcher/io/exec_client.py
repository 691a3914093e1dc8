"""The operator's end of ``cvm exec``: handshake through the VM's port, then the command's input and output.

Everything the guest sends is bounded; nothing of it is shown or believed before the session is keyed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from collections.abc import Callable

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from launcher.core.text import safe_text
from policy.errors import CvmError
from policy.exec_channel import (
    ANSWER,
    AUTH,
    DATA,
    EXIT,
    HELLO,
    MAX_CHUNK,
    NONCE,
    POINT,
    REFUSAL,
    REQUEST,
    RESIZE,
    STDERR,
    STDIN,
    STDIN_END,
    STDOUT,
    Ephemeral,
    ExecMalformed,
    Message,
    Sealed,
    Stream,
    message,
    pack_size,
    session_keys,
    sign,
    transcript,
    unpack_size,
)
from policy.named import NamedTuple
from policy.strictjson import strict_json

HANDSHAKE_SECONDS = 150.0
"""A guest may have to attest again first, under emulation, with a service that asks AMD."""
HELLO_SECONDS = 15.0
GRACE = 15.0


class ExecRefused(CvmError):
    """The guest, or its service, does not let this operator in."""

    code = "exec.refused"
    exit_status = 7


class ExecFailed(CvmError):
    """The guest does not answer, or ends the session in the middle."""

    code = "exec.failed"
    exit_status = 9


class Exit(NamedTuple):
    """How the command ended: exit status, or minus the signal."""

    code: int
    timed_out: bool


def _nothing() -> None:
    """For a terminal that needs no preparation."""


class Window(NamedTuple):
    """The operator's terminal: its ``kind`` (TERM), its size now (rows, columns), and a descriptor that can be read
    when that has changed. ``begin`` is called when the guest has answered: until then its keys are this host's.
    """

    kind: str
    size: Callable[[], tuple[int, int]]
    changed: int
    begin: Callable[[], object] = _nothing


class Streams(NamedTuple):
    """``stdin``: a descriptor or ``None``; the others take bytes. ``window``: run on a terminal like this one."""

    stdin: int | None
    stdout: Callable[[bytes], object]
    stderr: Callable[[bytes], object]
    window: Window | None = None


Trust = Callable[[str], bytes]
"""Token -> the guest's public point; raises CvmError when the token does not stand."""


def handshake(client: socket.socket, operator: ed25519.Ed25519PrivateKey, trust: Trust) -> Sealed:
    """A session with the attested guest. Raises :class:`ExecRefused`, :class:`ExecFailed`, and what ``trust`` does.

    The hello is said again when nobody answers: the guest may be throwing away the rest of an earlier session.
    """
    deadline = time.monotonic() + HANDSHAKE_SECONDS
    public = operator.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    fresh, nonce = Ephemeral(), os.urandom(NONCE)
    hello = fresh.point + nonce + public
    answer = _answer(client, hello, nonce, deadline)
    digest = transcript(hello, answer)
    token = answer[NONCE + POINT :].decode("ascii", "replace")
    guest = trust(token)
    send, receive = session_keys(fresh.agree(guest), fresh.agree(answer[NONCE : NONCE + POINT]), digest)
    channel = Sealed(send, receive)
    client.sendall(channel.seal(AUTH, sign(operator, digest)))
    return channel


def _answer(client: socket.socket, hello: bytes, nonce: bytes, deadline: float) -> bytes:
    stream = Stream(ANSWER, REFUSAL)
    again = 0.0
    while (now := time.monotonic()) < deadline:
        if now >= again:
            client.sendall(message(HELLO, hello))
            again = now + HELLO_SECONDS
        for one in _received(client, stream, min(again, deadline) - now):
            if one.body[:NONCE] != nonce:
                continue  # the rest of somebody else's session
            if one.magic == REFUSAL:
                why = safe_text(one.body[NONCE:].decode("utf-8", "replace"), 600)
                raise ExecRefused(f"exec: the guest refuses: {why}")
            if len(one.body) > NONCE + POINT:
                return one.body
    raise ExecFailed(
        f"exec: the guest did not answer in {HANDSHAKE_SECONDS:g} s", hint="is its agent one that serves exec? cvm logs"
    )


def _received(client: socket.socket, stream: Stream, seconds: float) -> list[Message]:
    if not select.select([client], [], [], max(0.0, seconds))[0]:
        return []
    data = client.recv(1 << 16)
    if not data:
        raise ExecFailed("exec: the VM has ended")
    with contextlib.suppress(ExecMalformed):  # not ours: the real answer has its nonce
        return stream.feed(data)
    return []


def run_command(client: socket.socket, channel: Sealed, argv: list[str], timeout: int, streams: Streams) -> Exit:
    """Run it to its end. Raises :class:`ExecFailed`, :class:`policy.exec_channel.ExecMalformed`."""
    client.sendall(channel.seal(REQUEST, _request(argv, timeout, streams.window)))
    stdin, window = streams.stdin, streams.window
    if window is not None:
        window.begin()
    if stdin is None:
        client.sendall(channel.seal(STDIN_END))
    stream = Stream(DATA)
    deadline = time.monotonic() + timeout + GRACE
    while time.monotonic() < deadline:
        inputs = (client.fileno(), stdin, None if window is None else window.changed)
        ready, _, _ = select.select([item for item in inputs if item is not None], [], [], 1.0)
        if client.fileno() in ready:
            ended = _output(client, stream, channel, streams)
            if ended is not None:
                return ended
        if stdin is not None and stdin in ready:
            data = os.read(stdin, MAX_CHUNK)
            client.sendall(channel.seal(STDIN, data) if data else channel.seal(STDIN_END))
            stdin = stdin if data else None
        if window is not None and window.changed in ready:
            os.read(window.changed, MAX_CHUNK)
            client.sendall(channel.seal(RESIZE, pack_size(*window.size())))
    raise ExecFailed(f"exec: no word from the guest {GRACE:g} s after the command's time was over")


def _request(argv: list[str], timeout: int, window: Window | None) -> bytes:
    body: dict[str, object] = {"argv": argv, "timeout": timeout}
    if window is not None:
        rows, columns = unpack_size(pack_size(*window.size()))
        body["terminal"] = {"kind": window.kind, "rows": rows, "columns": columns}
    return json.dumps(body, separators=(",", ":")).encode("ascii")


def _output(client: socket.socket, stream: Stream, channel: Sealed, streams: Streams) -> Exit | None:
    data = client.recv(1 << 16)
    if not data:
        raise ExecFailed("exec: the VM ended before the command did")
    for one in stream.feed(data):
        kind, body = channel.open(one.body)
        if kind == EXIT:
            return parse_exit(body)
        if kind not in (STDOUT, STDERR):
            raise ExecMalformed(f"exec: frame kind {kind}, want output or exit")
        (streams.stdout if kind == STDOUT else streams.stderr)(body)
    return None


def parse_exit(data: bytes) -> Exit:
    """Raises :class:`ExecMalformed`."""
    body = strict_json(data, "exec exit", max_bytes=200, error=ExecMalformed)
    if not isinstance(body, dict) or set(body) != {"code", "timed_out"}:
        raise ExecMalformed("exec exit: want exactly the members code, timed_out")
    code, timed_out = body["code"], body["timed_out"]
    if type(code) is not int or not -64 <= code <= 255 or not isinstance(timed_out, bool):
        raise ExecMalformed("exec exit: want a status and whether the time was over")
    return Exit(code, timed_out)
