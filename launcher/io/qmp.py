"""A small blocking client of QEMU's monitor protocol.

Run states: connected (after :func:`open_qmp`, which negotiates) and closed. :meth:`Qmp.execute` waits for its answer
and keeps events that arrive meanwhile; :meth:`Qmp.take_events` gives them. One command at a time, one thread. QEMU
answers in the order of commands, so what one that was given up gets later is known and passed over.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from collections import deque

from launcher.core.qmp_wire import MAX_LINE, Event, Failure, Greeting, Message, Return, parse_message
from launcher.errors import QemuFailed, QmpMalformed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_PATIENCE, _WITHOUT_ANSWER = 20.0, 2.0
"""Seconds for an answer, and while QEMU owes one to an earlier command: then it hangs, and others wait for us."""
_MAX_EVENTS = 10_000


class QmpClosed(QemuFailed):
    """QEMU closed the monitor: it has ended or is about to."""

    code = "qmp.closed"


class QmpRefused(QemuFailed):
    """QEMU refused a command, in its own words."""

    code = "qmp.refused"


class Qmp:
    """The connection. Every method raises :class:`QmpClosed` once QEMU is gone and `QmpMalformed` for nonsense."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()
        self._events: deque[Event] = deque(maxlen=_MAX_EVENTS)
        self.version = (0, 0, 0)
        self._owed = 0
        """Commands that QEMU has not answered."""

    def negotiate(self) -> None:
        """Read the greeting and leave negotiation mode."""
        greeting = self._next(_PATIENCE)
        if not isinstance(greeting, Greeting):
            raise QmpMalformed(f"QMP: the first line is {type(greeting).__name__}, want the greeting")
        self.version = greeting.version
        self.execute("qmp_capabilities")

    def execute(self, command: str, /, **arguments: object) -> Any:
        """Run one command; its return value. Raises :class:`QmpRefused` with QEMU's words."""
        return self.execute_with(command, {name.replace("_", "-"): value for name, value in arguments.items()})

    def execute_with(self, command: str, arguments: Mapping[str, object]) -> Any:
        """As :meth:`execute`, with names of arguments as they are."""
        request: dict[str, object] = {"execute": command}
        if arguments:
            request["arguments"] = dict(arguments)
        try:
            self._socket.sendall(json.dumps(request).encode("ascii") + b"\n")
        except OSError:
            raise QmpClosed(f"QMP: {command}: QEMU has closed its monitor") from None
        return self._answer(command)

    def _answer(self, command: str) -> Any:
        patience = _WITHOUT_ANSWER if self._owed else _PATIENCE
        self._owed += 1
        while True:
            answer = self._next(patience)
            if not isinstance(answer, (Return, Failure)):
                continue
            self._owed -= 1
            if self._owed:
                continue  # to an earlier command
            if isinstance(answer, Return):
                return answer.value
            raise QmpRefused(f"QMP: {command}: {answer.text}")

    def give(self, name: str, descriptor: int) -> None:
        """Hand QEMU an open file under a name (``getfd``); ours stays open."""
        request = {"execute": "getfd", "arguments": {"fdname": name}}
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode("ascii") + b"\n"], [descriptor])
        except OSError:
            raise QmpClosed("QMP: getfd: QEMU has closed its monitor") from None
        self._answer("getfd")

    def hmp(self, line: str, cpu: int = 0) -> str:
        """A command of the human monitor, on one vCPU; its text."""
        return str(self.execute("human-monitor-command", command_line=line, cpu_index=cpu))

    @property
    def waiting(self) -> bool:
        """Whether events came together with the answer to a command: no select will tell."""
        return bool(self._events) or b"\n" in self._buffer

    def take_events(self) -> list[Event]:
        """Events received so far, plus whatever can be read without waiting. Raises only when there are none."""
        try:
            self._keep_all()
            while select.select([self._socket], [], [], 0)[0]:
                self._fill()
                self._keep_all()
        except QmpClosed:
            if not self._events:
                raise
        taken = list(self._events)
        self._events.clear()
        return taken

    def await_event(self, wanted: Callable[[Event], bool], seconds: float) -> None:
        """Wait until such an event has come; all events stay to be taken. Raises `QemuFailed` after ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            self._keep_all()
            if any(wanted(event) for event in self._events):
                return
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                raise QemuFailed(f"QMP: no such event within {seconds:g} s")
            self._fill()

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def close(self) -> None:
        """Let go; QEMU goes on."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _next(self, patience: float) -> Message:
        """The next message that is not an event, within ``patience`` seconds."""
        deadline = time.monotonic() + patience
        while True:
            while b"\n" in self._buffer:
                message = self._pop()
                if not isinstance(message, Event):
                    return message
                self._keep(message)
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                raise QemuFailed(f"QMP: no answer within {patience:g} s")
            self._fill()

    def _pop(self) -> Message:
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer[:] = rest
        return parse_message(line)

    def _keep_all(self) -> None:
        while b"\n" in self._buffer:
            self._keep(self._pop())

    def _keep(self, message: Message) -> None:
        if isinstance(message, Event):
            self._events.append(message)
        elif self._owed:
            self._owed -= 1

    def _fill(self) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            raise QmpClosed("QMP: QEMU has closed its monitor")
        self._buffer += data
        if len(self._buffer) > MAX_LINE and b"\n" not in self._buffer:
            raise QmpMalformed(f"QMP: a line of more than {MAX_LINE} bytes")


def open_qmp(connection: socket.socket) -> Qmp:
    """Greet QEMU over a connected socket."""
    client = Qmp(connection)
    client.negotiate()
    return client
