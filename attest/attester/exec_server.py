"""The guest's end of ``cvm exec``. A process of its own, started after the service accepted this guest, and only when
the measured command line names operators. One session at a time; every wait and every length has a bound.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

from attest.attester.ports import write_all
from policy.errors import CvmError
from policy.exec_channel import (
    ANSWER,
    AUTH,
    DATA,
    EXIT,
    HELLO,
    MAX_CHUNK,
    REFUSAL,
    REQUEST,
    STDERR,
    STDIN,
    STDIN_END,
    STDOUT,
    Ephemeral,
    ExecMalformed,
    Message,
    Sealed,
    Stream,
    check,
    message,
    parse_hello,
    session_keys,
    transcript,
)
from policy.strictjson import strict_json

MAX_ARGUMENTS, MAX_TEXT, MAX_SECONDS = 256, 32 * 1024, 24 * 3600
MAX_WAITING_INPUT = 1 << 20
IDLE_SECONDS = 20.0
"""How long a session may take until its request is there."""
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


class Agreeing(Protocol):
    """The key that the accepted report is about."""

    def agree(self, point: bytes) -> bytes:
        """ECDH with an uncompressed point."""


Credential = Callable[[], tuple[str, Agreeing]]
"""The token of an attestation the service accepted, and its key; raises CvmError when it no longer does."""


class Request(NamedTuple):
    """What to run, and how long at most."""

    argv: tuple[str, ...]
    timeout: float


def parse_request(data: bytes) -> Request:
    """``{"argv": [...], "timeout": seconds}`` and nothing else. Raises :class:`ExecMalformed`."""
    body = strict_json(data, "exec request", max_bytes=MAX_TEXT * 2, error=ExecMalformed)
    if not isinstance(body, dict) or set(body) != {"argv", "timeout"}:
        raise ExecMalformed("exec request: want exactly the members argv, timeout")
    argv, timeout = body["argv"], body["timeout"]
    if not isinstance(argv, list) or not 1 <= len(argv) <= MAX_ARGUMENTS:
        raise ExecMalformed(f"exec request: argv: want a list of 1 to {MAX_ARGUMENTS} strings")
    if not all(isinstance(word, str) and "\0" not in word for word in argv) or not argv[0]:
        raise ExecMalformed("exec request: argv: want strings without NUL, the first not empty")
    if sum(len(word) for word in argv) > MAX_TEXT:
        raise ExecMalformed(f"exec request: argv: more than {MAX_TEXT} characters")
    if type(timeout) is not int or not 1 <= timeout <= MAX_SECONDS:
        raise ExecMalformed(f"exec request: timeout: want 1 to {MAX_SECONDS} seconds")
    return Request(tuple(argv), float(timeout))


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


class Port:
    """A virtio-serial port: reads give nothing while nobody is connected at the host's end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, seconds: float) -> bytes | None:
        """What arrived within ``seconds``, empty when nothing did, ``None`` when the other side is gone."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        events = sum(event for _, event in poller.poll(seconds * 1000))
        if not events:
            return b""
        try:
            data = os.read(self._descriptor, MAX_CHUNK) if events & select.POLLIN else b""
        except BlockingIOError:
            return b""
        if not data:
            time.sleep(min(seconds, 0.25))  # the kernel says "gone" at once, again and again
        return data or None

    def write(self, data: bytes) -> None:
        """All of it; raises OSError when the other side does not take it in time."""
        write_all(self._descriptor, data, seconds=IDLE_SECONDS)


class _Interrupted(ExecMalformed):
    """The operator has gone, or (``waiting``) begins another session."""

    def __init__(self, *waiting: Message) -> None:
        super().__init__("exec: the session is over")
        self.waiting = list(waiting)


class ExecServer:
    """Serves sessions on ``port`` until ``stop``. ``say`` tells the console who ran what; never what it printed."""

    def __init__(
        self, port: Port, operators: tuple[bytes, ...], credential: Credential, say: Callable[[str], None]
    ) -> None:
        self._port = port
        self._say = say
        self._session = Session(operators, credential, Ephemeral)
        self._stream = Stream(HELLO, DATA)
        self._waiting: list[Message] = []
        self._deadline = 0.0

    def serve(self, stop: Callable[[], bool] = lambda: False) -> None:
        """One session after the other."""
        while not stop():
            try:
                self._step()
            except (ExecMalformed, OSError) as exc:
                self._reset()  # no word about why: whoever it was proved nothing
                self._waiting = exc.waiting if isinstance(exc, _Interrupted) else []

    def _step(self) -> None:
        """What arrives within a second; a session whose request takes too long is over."""
        self._waiting = self._messages(1.0)
        while self._waiting:
            one = self._waiting.pop(0)
            if one.magic == HELLO:
                self._deadline = time.monotonic() + IDLE_SECONDS
            self._port.write(self._session.take(one))
            if self._session.ready is not None:
                self._run(self._session.ready)
                self._reset()
        if self._session.channel is not None and time.monotonic() > self._deadline:
            self._reset()

    def _messages(self, seconds: float) -> list[Message]:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            return waiting
        data = self._port.read(seconds)
        if data is None:
            self._stream = Stream(HELLO, DATA)
            raise _Interrupted
        return self._stream.feed(data)

    def _new_messages(self, seconds: float) -> list[Message]:
        return [one for one in self._messages(seconds) if not self._session.again(one)]

    def _reset(self) -> None:
        self._session.channel = None
        self._session.ready = None

    def _run(self, request: Request) -> None:
        channel = self._session.channel
        if channel is None:
            raise TypeError("a request comes through a channel")
        self._say(f"exec: an operator runs {request.argv[0][:80]}")
        try:
            process = subprocess.Popen(
                list(request.argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                cwd="/", env=_ENVIRONMENT, start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else str(exc)
            self._port.write(channel.seal(STDERR, f"{request.argv[0]}: {why}\n".encode()))
            self._port.write(channel.seal(EXIT, _exit(127, timed_out=False)))
            return
        try:
            Running(self._port, channel, process, self._new_messages).until(time.monotonic() + request.timeout)
        finally:
            _kill(process)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()


class Running:
    """A started command: its output goes out, input comes in."""

    def __init__(
        self, port: Port, channel: Sealed, process: subprocess.Popen[bytes], messages: Callable[[float], list[Message]]
    ) -> None:
        self._port, self._channel, self._process, self._messages = port, channel, process, messages
        self._input = bytearray()
        self._no_more = False
        self._pipes = {
            pipe.fileno(): kind for pipe, kind in ((process.stdout, STDOUT), (process.stderr, STDERR)) if pipe
        }
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)

    def until(self, deadline: float) -> None:
        """To its end, or to ``deadline``; then the exit is sent. Raises :class:`ExecMalformed`, OSError."""
        timed_out = False
        while self._pipes or self._process.poll() is None:
            timed_out = time.monotonic() > deadline
            if timed_out:
                _kill(self._process)
                break
            self._out(0.02)
            for one in self._messages(0.0):
                self._in(one)
            self._feed()
            if self._process.poll() is not None and not self._out(0.0):
                break  # what it left behind may hold the pipes open for ever
        code = self._process.wait()
        self._port.write(self._channel.seal(EXIT, _exit(code, timed_out=timed_out)))

    def _out(self, seconds: float) -> bool:
        ready, _, _ = select.select(list(self._pipes), [], [], seconds) if self._pipes else ([], [], [])
        if not self._pipes:
            time.sleep(seconds)
        for descriptor in ready:
            data = os.read(descriptor, MAX_CHUNK)
            if data:
                self._port.write(self._channel.seal(self._pipes[descriptor], data))
            else:
                del self._pipes[descriptor]
        return bool(ready)

    def _in(self, one: Message) -> None:
        if one.magic != DATA:
            raise _Interrupted(one)
        kind, data = self._channel.open(one.body)
        if kind == STDIN and not self._no_more:
            self._input += data
        elif kind == STDIN_END:
            self._no_more = True
        else:
            raise ExecMalformed(f"exec: frame kind {kind} while a command runs")
        if len(self._input) > MAX_WAITING_INPUT:
            raise ExecMalformed(
                f"exec: more than {MAX_WAITING_INPUT} bytes of input wait for a command that reads none"
            )

    def _feed(self) -> None:
        pipe = self._process.stdin
        if pipe is None or pipe.closed:
            return
        try:
            while self._input:
                del self._input[: os.write(pipe.fileno(), self._input[:MAX_CHUNK])]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._input.clear()
            self._no_more = True
        if self._no_more:
            with suppress(OSError):
                pipe.close()


def _exit(code: int, *, timed_out: bool) -> bytes:
    return json.dumps({"code": code, "timed_out": timed_out}, separators=(",", ":")).encode("ascii")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
