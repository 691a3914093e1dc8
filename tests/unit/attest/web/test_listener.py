"""One worker with several threads: as many requests at a time, and a request that hangs ends."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask

from attest.web import arrivals, worker
from attest.web import listener as web
from attest.web.listener import Listener, run_listener

THREADS = 3


def make_app() -> Flask:
    """``/meet`` answers only when as many ask as there are threads; ``/hang`` not at all; ``/`` says who answers;
    ``/slow`` takes a second; ``/unread`` does not look at a body.
    """
    app, meeting = Flask("test"), threading.Barrier(THREADS)
    app.add_url_rule("/meet", view_func=lambda: f"{meeting.wait(10)}", endpoint="meet")
    app.add_url_rule("/hang", view_func=lambda: f"{time.sleep(60)}", endpoint="hang")
    app.add_url_rule("/slow", view_func=lambda: f"{time.sleep(1)}", endpoint="slow")
    app.add_url_rule("/unread", view_func=lambda: "no", endpoint="unread", methods=["POST"])
    app.add_url_rule("/", view_func=lambda: f"{os.getpid()}", endpoint="who")
    return app


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], int]]:
    """Starts a listener with a time limit for requests; returns its port."""
    children = []

    def start(limit: int) -> int:
        monkeypatch.setattr(web, "REQUEST_SECONDS", limit)
        bound = socket.create_server(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        child = os.fork()
        if not child:
            try:
                run_listener(Listener("test", bound, None, None, 1, make_app, lambda: None, THREADS))
            finally:
                os._exit(1)
        children.append(child)
        bound.close()
        return port

    yield start
    for child in children:
        os.kill(child, signal.SIGTERM)
        assert os.waitpid(child, 0)[1] in (0, 256)


def get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def test_threads_of_one_worker_serve_at_the_same_time(serve: Callable[[int], int]) -> None:
    port = serve(30)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda _: get(port, "/meet"), range(THREADS)))
    assert sorted(found) == [b"0", b"1", b"2"]


def test_a_request_that_hangs_loses_its_connection_and_the_service_goes_on(serve: Callable[[int], int]) -> None:
    port = serve(2)
    before = get(port, "/")
    start = time.monotonic()
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        get(port, "/hang")
    assert time.monotonic() - start > 1
    assert get(port, "/") != before


def test_a_signal_leaves_a_worker_at_rest(serve: Callable[[int], int]) -> None:
    worker = int(get(serve(30), "/"))
    os.kill(worker, signal.SIGUSR1)
    time.sleep(0.2)
    before = spent(worker)
    time.sleep(1)
    assert spent(worker) - before < 0.1


def asked(connection: http.client.HTTPConnection, path: str = "/") -> http.client.HTTPResponse:
    """The whole answer of a kept connection; its socket must be the one it had."""
    before = connection.sock
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    assert before is None or connection.sock is before or connection.sock is None
    return answer


def kept(port: int) -> http.client.HTTPConnection:
    """A connection that has had one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    answer = asked(connection)
    assert not answer.will_close
    return connection


def ended(connection: http.client.HTTPConnection, seconds: float = 20) -> bool:
    """Whether the server ends it, without a word."""
    connection.sock.settimeout(seconds)
    try:
        return connection.sock.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def test_a_connection_is_kept_for_the_next_request(serve: Callable[[int], int]) -> None:
    connection = kept(serve(30))
    assert all(not asked(connection).will_close for _ in range(5))
    connection.close()


def test_a_client_that_wants_no_more_is_told_that_its_connection_ends(serve: Callable[[int], int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", serve(30), timeout=20)
    connection.request("GET", "/", headers={"Connection": "close"})
    assert connection.getresponse().will_close


def test_connections_at_rest_hold_no_thread(serve: Callable[[int], int]) -> None:
    port = serve(30)
    resting = [kept(port) for _ in range(4 * THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        assert sorted(pool.map(lambda _: get(port, "/meet"), range(THREADS))) == [b"0", b"1", b"2"]
    for connection in resting:
        assert not asked(connection).will_close
        connection.close()


def test_a_connection_at_rest_ends_after_a_while(serve: Callable[[int], int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "IDLE_SECONDS", 0.2)
    assert ended(kept(serve(30)))


def test_no_more_connections_rest_than_may(serve: Callable[[int], int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MOST_IDLE", 2)
    port = serve(30)
    resting = [kept(port), kept(port)]
    deadline = time.monotonic() + 20
    # A connection rests a moment after its client has the answer.
    while not asked(http.client.HTTPConnection("127.0.0.1", port, timeout=20)).will_close:
        assert time.monotonic() < deadline, "more connections rest than may"
    resting.pop().close()
    while asked(http.client.HTTPConnection("127.0.0.1", port, timeout=20)).will_close:
        assert time.monotonic() < deadline, "the place of a connection that its client closed stays taken"
    resting.pop().close()


def test_a_connection_ends_after_so_many_requests(serve: Callable[[int], int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MOST_REQUESTS", 2)
    assert asked(kept(serve(30))).will_close


def test_a_connection_ends_when_it_is_old(serve: Callable[[int], int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LONGEST_SECONDS", 0.0)
    assert asked(http.client.HTTPConnection("127.0.0.1", serve(30), timeout=20)).will_close


def test_requests_sent_together_are_answered_one_after_the_other(serve: Callable[[int], int]) -> None:
    with socket.create_connection(("127.0.0.1", serve(30)), 20) as client:
        one = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        client.sendall(one + one + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b"".join(iter(lambda: client.recv(4096), b""))
    assert data.count(b"HTTP/1.1 200 OK") == 3


def test_what_follows_a_body_that_was_not_read_is_no_request(serve: Callable[[int], int]) -> None:
    with socket.create_connection(("127.0.0.1", serve(30)), 20) as client:
        hidden = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        client.sendall(b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(hidden), hidden))
        data = b"".join(iter(lambda: client.recv(4096), b""))
    assert data.count(b"HTTP/1.1") == 1
    assert b"Connection: close" in data


def test_a_later_request_has_only_so_long_to_arrive_too(
    serve: Callable[[int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "READ_SECONDS", 1.0)
    connection = kept(serve(30))
    start = time.monotonic()
    try:
        while time.monotonic() < start + 15:
            connection.sock.sendall(b"G")
            time.sleep(0.1)
    except OSError:
        pass
    assert time.monotonic() < start + 10


def test_a_worker_that_is_replaced_ends_connections_at_rest_and_answers_what_it_was_asked(
    serve: Callable[[int], int],
) -> None:
    port = serve(30)
    resting, busy = kept(port), kept(port)
    worker_id = int(get(port, "/"))
    busy.request("GET", "/slow")
    time.sleep(0.2)
    os.kill(worker_id, signal.SIGTERM)
    answer = busy.getresponse()
    assert (answer.status, answer.read(), answer.will_close) == (200, b"None", True)
    assert ended(resting)
    assert int(get(port, "/")) != worker_id


def spent(process: int) -> float:
    """Processor time in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
