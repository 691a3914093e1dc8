"""The guest's end of ``cvm exec``. A process of its own, started after the service accepted this guest, and only when
the measured command line names operators. One session at a time; every wait and every length has a bound.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable
from pathlib import Path

from attest.attester.exec_running import Command, start
from attest.attester.exec_session import Credential, Request, Session
from attest.attester.ports import write_all
from policy.exec_channel import (
    DATA,
    EXIT,
    HELLO,
    MAX_CHUNK,
    RESIZE,
    STDERR,
    STDIN,
    STDIN_END,
    Ephemeral,
    ExecMalformed,
    Message,
    Sealed,
    Stream,
    unpack_size,
)

MAX_WAITING_INPUT = 1 << 20
IDLE_SECONDS = 20.0
"""How long a session may take until its request is there."""


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
    """Serves sessions on ``port`` until ``stop``. ``say`` tells the console who ran what; never what it printed.
    ``root``: commands run inside it.
    """

    def __init__(
        self,
        port: Port,
        operators: tuple[bytes, ...],
        credential: Credential,
        say: Callable[[str], None],
        root: Path | None = None,
    ) -> None:
        self._port = port
        self._root = root
        self._say = say
        self._session = Session(operators, credential, Ephemeral)
        self._stream = Stream(HELLO, DATA)
        self._waiting: list[Message] = []
        self._deadline = 0.0

    def serve(self, stop: Callable[[], bool] = lambda: False) -> None:
        """One session after the other."""
        while not stop():
            # No word about why: whoever it was proved nothing. What came behind it may be another's hello.
            try:
                self._step()
            except _Interrupted as exc:
                self._reset()
                self._waiting = exc.waiting
            except ExecMalformed:
                self._reset()
            except OSError:
                self._reset()
                self._waiting = []

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
            command = start(request, self._root)
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else str(exc)
            self._port.write(channel.seal(STDERR, f"{request.argv[0]}: {why}\n".encode()))
            self._port.write(channel.seal(EXIT, _exit(127, timed_out=False)))
            return
        try:
            Running(self._port, channel, command, self._new_messages).until(time.monotonic() + request.timeout)
        finally:
            command.end()


class Running:
    """A started command: its output goes out, input comes in."""

    def __init__(
        self, port: Port, channel: Sealed, command: Command, messages: Callable[[float], list[Message]]
    ) -> None:
        self._port, self._channel, self._command, self._messages = port, channel, command, messages
        self._input = bytearray()
        self._no_more = False

    def until(self, deadline: float) -> None:
        """To its end, or to ``deadline``; then the exit is sent. Raises :class:`ExecMalformed`, OSError."""
        timed_out = False
        process = self._command.process
        while self._command.outputs or process.poll() is None:
            timed_out = time.monotonic() > deadline
            if timed_out:
                break
            self._out(0.02)
            for one in self._messages(0.0):
                self._in(one)
            self._feed()
            if process.poll() is not None and not self._out(0.0):
                break  # what it left behind may hold the pipes open for ever
        if timed_out:
            self._command.end()
        self._port.write(self._channel.seal(EXIT, _exit(process.wait(), timed_out=timed_out)))

    def _out(self, seconds: float) -> bool:
        outputs = self._command.outputs
        ready, _, _ = select.select(list(outputs), [], [], seconds) if outputs else ([], [], [])
        if not outputs:
            time.sleep(seconds)
        for descriptor in ready:
            kind = outputs[descriptor]
            data = self._command.read(descriptor)
            if data:
                self._port.write(self._channel.seal(kind, data))
        return bool(ready)

    def _in(self, one: Message) -> None:
        if one.magic != DATA:
            raise _Interrupted(one)
        kind, data = self._channel.open(one.body)
        if kind == STDIN and not self._no_more:
            self._input += data
        elif kind == STDIN_END:
            self._no_more = True
        elif kind == RESIZE:
            self._command.resize(*unpack_size(data))
        else:
            raise ExecMalformed(f"exec: frame kind {kind} while a command runs")
        if len(self._input) > MAX_WAITING_INPUT:
            raise ExecMalformed(
                f"exec: more than {MAX_WAITING_INPUT} bytes of input wait for a command that reads none"
            )

    def _feed(self) -> None:
        self._command.write(self._input)
        if self._no_more and not self._input:
            self._command.end_input()


def _exit(code: int, *, timed_out: bool) -> bytes:
    return json.dumps({"code": code, "timed_out": timed_out}, separators=(",", ":")).encode("ascii")
