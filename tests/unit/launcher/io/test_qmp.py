"""The monitor's client against a peer that answers right, wrong, late or not at all."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable

import pytest

from launcher.core.qmp_wire import MAX_LINE, Event, Failure, Greeting, Return, parse_message
from launcher.errors import QemuFailed, QmpMalformed
from launcher.io import qmp
from launcher.io.qmp import Qmp, QmpClosed, QmpRefused, open_qmp
from tests.until import PATIENCE

GREETING = {"QMP": {"version": {"qemu": {"major": 11, "minor": 1, "micro": 3}, "package": "x"}, "capabilities": []}}


OPEN: list[socket.socket] = []


def peer(script: Callable[[socket.socket], None]) -> Qmp:
    """A client whose other end runs ``script`` after the greeting and the capabilities."""
    ours, theirs = socket.socketpair()

    OPEN.append(theirs)

    def serve() -> None:
        theirs.sendall(json.dumps(GREETING).encode() + b"\r\n")
        theirs.recv(4096)
        theirs.sendall(b'{"return": {}}\r\n')
        script(theirs)

    threading.Thread(target=serve, daemon=True).start()
    return open_qmp(ours)


def test_a_command_gets_its_answer_and_events_are_kept() -> None:
    def script(theirs: socket.socket) -> None:
        assert json.loads(theirs.recv(4096)) == {
            "execute": "human-monitor-command",
            "arguments": {"command-line": "x", "cpu-index": 1},
        }
        theirs.sendall(b'{"event": "STOP", "timestamp": {}}\n{"return": "te')
        theirs.sendall(b'xt"}\n{"event": "RESUME", "data": {"a": 1}}\n')

    client = peer(script)
    assert client.version == (11, 1, 3)
    assert client.hmp("x", 1) == "text"
    events: list[Event] = []
    while len(events) < 2:
        events += client.take_events()
    assert events == [Event("STOP", {}), Event("RESUME", {"a": 1})]
    assert client.fileno() > 0
    client.close()


def test_a_refusal_carries_qemus_words() -> None:
    def script(theirs: socket.socket) -> None:
        theirs.recv(4096)
        theirs.sendall(b'{"error": {"class": "GenericError", "desc": "no such \\u001bdevice"}}\n')

    with pytest.raises(QmpRefused, match=r"QMP: device_del: no such \\x1bdevice"):
        peer(script).execute("device_del", id="x")


def test_events_before_the_end_are_still_given() -> None:
    def script(theirs: socket.socket) -> None:
        theirs.sendall(b'{"event": "SHUTDOWN", "data": {"guest": true}}\n')
        theirs.close()

    client = peer(script)
    events: list[Event] = []
    while not events:
        events = client.take_events()
    assert events == [Event("SHUTDOWN", {"guest": True})]
    with pytest.raises(QmpClosed):
        while True:
            client.take_events()
    with pytest.raises(QmpClosed):
        client.execute("quit")


def test_a_peer_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    client = peer(lambda theirs: None)
    monkeypatch.setattr(qmp, "_PATIENCE", 0.1)
    with pytest.raises(QemuFailed, match="no answer within"):
        client.execute("quit")


def test_a_late_answer_is_not_taken_for_that_of_the_next_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU stood still, the command was given up, and then QEMU went on."""

    def script(theirs: socket.socket) -> None:
        theirs.recv(4096)
        theirs.recv(4096)
        theirs.sendall(b'{"return": "late"}\n{"return": "in time"}\n')

    client = peer(script)
    monkeypatch.setattr(qmp, "_PATIENCE", 0.05)
    with pytest.raises(QemuFailed, match="no answer within"):
        client.execute("stop")
    monkeypatch.setattr(qmp, "_WITHOUT_ANSWER", PATIENCE)
    assert client.execute("query-status") == "in time"


def test_a_late_answer_between_two_commands_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def script(theirs: socket.socket) -> None:
        theirs.recv(4096)
        go.wait()
        theirs.sendall(b'{"return": "late"}\n{"event": "RESUME"}\n')
        theirs.recv(4096)
        theirs.sendall(b'{"return": "own"}\n')

    client = peer(script)
    monkeypatch.setattr(qmp, "_PATIENCE", 0.05)
    with pytest.raises(QemuFailed, match="no answer within"):
        client.execute("stop")
    go.set()
    client.await_event(lambda event: event.name == "RESUME", PATIENCE)
    monkeypatch.setattr(qmp, "_PATIENCE", PATIENCE)
    assert client.execute("query-status") == "own"


def test_a_first_line_that_is_no_greeting_is_refused() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b'{"return": {}}\n')
    with pytest.raises(QmpMalformed, match="want the greeting"):
        open_qmp(ours)


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp, "MAX_LINE", 1000)
    ours, theirs = socket.socketpair()
    theirs.sendall(b"x" * 2000)
    with pytest.raises(QmpMalformed, match="a line of more than"):
        open_qmp(ours)


def test_each_kind_of_message_is_understood() -> None:
    assert parse_message(json.dumps(GREETING).encode()) == Greeting((11, 1, 3))
    assert parse_message(b'{"return": [1], "id": 7}') == Return([1])
    assert parse_message(b'{"error": {"class": "C", "desc": "D"}}') == Failure("C", "D")
    assert parse_message(b'{"event": "E"}') == Event("E", {})


@pytest.mark.parametrize(
    "line",
    [
        b"", b"[]", b"{}", b'{"x": 1}', b'{"error": 1}', b'{"event": 1}', b'{"event": "E", "data": 1}', b'{"QMP": 1}',
        b'{"QMP": {"version": {"qemu": {"major": 1, "minor": 2}}}}',
        b'{"QMP": {"version": {"qemu": {"major": "1", "minor": 2, "micro": 3}}}}',
        b'{"QMP": {"version": [1]}}', b"\xff", b'{"return": 1, "return": 2}', b" " * (MAX_LINE + 1),
    ],
)  # fmt: skip
def test_what_is_no_message_is_our_error(line: bytes) -> None:
    with pytest.raises(QmpMalformed):
        parse_message(line)


def test_an_event_that_came_with_an_answer_is_known_to_wait() -> None:
    """No select tells of it: its bytes were read already."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(json.dumps(GREETING).encode() + b'\n{"return": {}}\n')
        client = open_qmp(ours)
        assert not client.waiting
        theirs.sendall(
            b'{"return": {}}\n{"event": "RESET", "timestamp": {"seconds": 1, "microseconds": 2}, "data": {}}\n'
        )
        client.execute("system_reset")
        assert client.waiting
        assert [event.name for event in client.take_events()] == ["RESET"]
        assert not client.waiting
