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

from attest.web import listener as web
from attest.web.listener import Listener, run_listener

THREADS = 3


def make_app() -> Flask:
    """``/meet`` answers only when as many ask as there are threads; ``/hang`` not at all; ``/`` says who answers."""
    app, meeting = Flask("test"), threading.Barrier(THREADS)
    app.add_url_rule("/meet", view_func=lambda: f"{meeting.wait(10)}", endpoint="meet")
    app.add_url_rule("/hang", view_func=lambda: f"{time.sleep(60)}", endpoint="hang")
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


def spent(process: int) -> float:
    """Processor time in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
