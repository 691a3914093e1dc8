"""The guest's half of the handshake of ``cvm exec``, as a state machine without I/O, and the request that ends it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, Protocol

from policy.errors import CvmError
from policy.exec_channel import (
    ANSWER,
    AUTH,
    HELLO,
    MAX_SIDE,
    REFUSAL,
    REQUEST,
    Ephemeral,
    ExecMalformed,
    Message,
    Sealed,
    check,
    message,
    parse_hello,
    session_keys,
    transcript,
)
from policy.strictjson import strict_json

MAX_ARGUMENTS, MAX_TEXT, MAX_SECONDS = 256, 32 * 1024, 24 * 3600


class Agreeing(Protocol):
    """The key that the accepted report is about."""

    def agree(self, point: bytes) -> bytes:
        """ECDH with an uncompressed point."""


Credential = Callable[[], tuple[str, Agreeing]]
"""The token of an attestation the service accepted, and its key; raises CvmError when it no longer does."""


class Terminal(NamedTuple):
    """A terminal to run on: its ``kind`` (TERM) and size."""

    kind: str
    rows: int
    columns: int


class Request(NamedTuple):
    """What to run, how long at most, and on which terminal, if on one."""

    argv: tuple[str, ...]
    timeout: float
    terminal: Terminal | None = None


def parse_request(data: bytes) -> Request:
    """``{"argv": [...], "timeout": seconds}``, maybe ``"terminal"``, nothing else. Raises :class:`ExecMalformed`."""
    body = strict_json(data, "exec request", max_bytes=MAX_TEXT * 2, error=ExecMalformed)
    if not isinstance(body, dict) or set(body) - {"terminal"} != {"argv", "timeout"}:
        raise ExecMalformed("exec request: want exactly the members argv, timeout, and terminal for one")
    argv, timeout = body["argv"], body["timeout"]
    if not isinstance(argv, list) or not 1 <= len(argv) <= MAX_ARGUMENTS:
        raise ExecMalformed(f"exec request: argv: want a list of 1 to {MAX_ARGUMENTS} strings")
    if not all(isinstance(word, str) and "\0" not in word for word in argv) or not argv[0]:
        raise ExecMalformed("exec request: argv: want strings without NUL, the first not empty")
    if sum(len(word) for word in argv) > MAX_TEXT:
        raise ExecMalformed(f"exec request: argv: more than {MAX_TEXT} characters")
    if type(timeout) is not int or not 1 <= timeout <= MAX_SECONDS:
        raise ExecMalformed(f"exec request: timeout: want 1 to {MAX_SECONDS} seconds")
    terminal = _terminal(body["terminal"]) if "terminal" in body else None
    return Request(tuple(argv), float(timeout), terminal)


def _terminal(value: object) -> Terminal:
    if not isinstance(value, dict) or set(value) != {"kind", "rows", "columns"}:
        raise ExecMalformed("exec request: terminal: want exactly the members kind, rows, columns")
    kind, rows, columns = value["kind"], value["rows"], value["columns"]
    if not isinstance(kind, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}", kind):
        raise ExecMalformed(f"exec request: terminal: kind {str(kind)[:40]!r}, want a name such as xterm")
    if not all(type(side) is int and 1 <= side <= MAX_SIDE for side in (rows, columns)):
        raise ExecMalformed(f"exec request: terminal: want 1 to {MAX_SIDE} rows and columns")
    return Terminal(kind, rows, columns)


class Session:
    """The handshake as a state machine: messages in, messages out, no I/O. ``ready`` holds the request at the end."""

    def __init__(
        self, operators: tuple[bytes, ...], credential: Credential, ephemeral: Callable[[], Ephemeral]
    ) -> None:
        self._operators = operators
        self._credential = credential
        self._ephemeral = ephemeral
        self._operator = self._hello = self._answer = b""
        self._digest = b""
        self._proved = False
        self.channel: Sealed | None = None
        self.ready: Request | None = None

    def take(self, one: Message) -> bytes:
        """What to send for ``one``, possibly nothing. Raises :class:`ExecMalformed`: the session is over."""
        if one.magic == HELLO and self.again(one):
            return b"" if self._proved else message(ANSWER, self._answer)
        if one.magic == HELLO:
            return self._begin(one.body)
        if self.channel is None:
            raise ExecMalformed("exec: a frame before the hello")
        kind, data = self.channel.open(one.body)
        if not self._proved:
            self._authenticate(kind, data)
        elif kind == REQUEST and self.ready is None:
            self.ready = parse_request(data)
        else:
            raise ExecMalformed(f"exec: frame kind {kind}, want the request")
        return b""

    def again(self, one: Message) -> bool:
        """Whether it is this session's own hello, said again because the answer took long."""
        return self.channel is not None and one == Message(HELLO, self._hello)

    def _begin(self, body: bytes) -> bytes:
        self.channel, self.ready, self._proved = None, None, False  # nothing of an earlier session stays
        hello = parse_hello(body)
        if hello.operator not in self._operators:
            return _refusal(hello.nonce, "this guest's measured command line does not name that operator's key")
        try:
            token, key = self._credential()
        except CvmError as exc:
            return _refusal(hello.nonce, f"the service does not accept this guest (any more): {exc.message}")
        fresh = self._ephemeral()
        with_tee, with_fresh = key.agree(hello.point), fresh.agree(hello.point)
        answer = hello.nonce + fresh.point + token.encode("ascii")
        self._hello, self._answer = body, answer
        self._digest = transcript(body, answer)
        receive, send = session_keys(with_tee, with_fresh, self._digest)
        self.channel = Sealed(send, receive)
        self._operator = hello.operator
        return message(ANSWER, answer)

    def _authenticate(self, kind: int, data: bytes) -> None:
        if kind != AUTH:
            raise ExecMalformed(f"exec: frame kind {kind} before the operator's proof")
        check(self._operator, data, self._digest)
        self._proved = True


def _refusal(nonce: bytes, why: str) -> bytes:
    return message(REFUSAL, nonce + why.encode("utf-8", "replace")[:2000])
