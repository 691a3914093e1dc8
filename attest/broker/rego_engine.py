"""Asking the process that runs Rego, for a bounded time and a bounded answer.

The engine is Microsoft's regorus, which Trustee uses, from the optional package ``celine-regorus``
(``docs/adr/0061-rego.md``). Where it is missing, slow or ends, nothing is accepted: that is our fault and said so.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attest.broker import rego_worker
from attest.errors import AttestError, Kind

ENGINE = "regorus"
SECONDS = 2.0
START_SECONDS = 10.0
MAX_QUESTION = rego_worker.MAX_LINE
MAX_ANSWER = 1 << 20
ENVIRONMENT = {"MIMALLOC_ARENA_RESERVE": "65536"}
"""All the worker gets: its allocator is to reserve 64 MiB, not a gigabyte, which the bound on memory forbids."""


class RegoUnavailable(AttestError):
    """No engine, or it did not answer in time: nothing is decided."""

    code = "rego.unavailable"
    kind: Kind = "unavailable"


class RegoFailed(AttestError):
    """The policy cannot be evaluated: not Rego, or a mistake at run time. The message is the engine's."""

    code = "rego.failed"


@dataclass(frozen=True, slots=True)
class Question:
    """What is evaluated: ``query`` over ``policy`` with ``data`` and ``input`` as Rego sees them."""

    policy: str
    query: str
    data: Mapping[str, Any]
    input: Mapping[str, Any]


class Undefined:
    """The answer of a query that has none."""


UNDEFINED = Undefined()


def available() -> bool:
    """Whether the engine's package is installed."""
    return importlib.util.find_spec(ENGINE) is not None


class RegoEngine:
    """One worker process, started when it is first asked and after it was killed. Used by any number of threads."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._owner = 0
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def evaluate(self, question: Question) -> Any:
        """The value, or UNDEFINED. Raises RegoFailed, RegoUnavailable."""
        asked = {"policy": question.policy, "query": question.query, "data": question.data, "input": question.input}
        line = json.dumps(asked).encode() + b"\n"
        if len(line) > MAX_QUESTION:
            raise RegoUnavailable(f"rego: {len(line)} bytes of input, at most {MAX_QUESTION} are taken")
        with self._lock:
            answer = self._exchange(line)
        if "error" in answer:
            raise RegoFailed(f"rego: {answer['error']}")
        return answer.get("value", UNDEFINED)

    def close(self) -> None:
        """End the worker."""
        with self._lock:
            self._end()

    def _exchange(self, line: bytes) -> dict[str, Any]:
        connection, seconds = self._connected()
        try:
            connection.settimeout(seconds)
            connection.sendall(line)
            return dict(json.loads(self._line(connection, time.monotonic() + seconds)))
        except (OSError, ValueError) as exc:
            self._end()
            reason = f"no answer within {seconds:.0f} s" if isinstance(exc, TimeoutError) else "it ended"
            raise RegoUnavailable(f"rego: the engine was stopped: {reason} (memory is bounded too)") from None

    def _line(self, connection: socket.socket, deadline: float) -> bytes:
        data = bytearray()
        while not data.endswith(b"\n"):
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            piece = connection.recv(1 << 16)
            if not piece or len(data) > MAX_ANSWER:
                raise ValueError
            data += piece
        return bytes(data)

    def _connected(self) -> tuple[socket.socket, float]:
        """The worker's socket, and how long its next answer may take. A fork does not share its parent's worker."""
        if self._owner != os.getpid():
            self._socket, self._process = None, None
        if self._socket is not None:
            return self._socket, self._seconds
        if not available():
            raise RegoUnavailable("rego: the engine is not installed", hint="pip install 'cvm[rego]'")
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(Path(rego_worker.__file__))],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=ENVIRONMENT,
            )
        self._socket, self._owner = ours, os.getpid()
        return ours, START_SECONDS

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._socket, self._process = None, None


HERE = RegoEngine()
"""Of this process."""
