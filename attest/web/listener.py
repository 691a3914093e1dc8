"""One listener: a gunicorn arbiter with workers on a socket that is already bound.

A worker is a few threads that each take one connection at a time, as so many synchronous workers would: what waits,
waits in the kernel, where it is counted. They are threads of one process because what they write at the same time is
flushed to the disk once. A connection that says nothing is dropped after a few seconds, in the handshake too. A client
that says little at a time has READ_SECONDS for handshake and request together, so that a few of them cannot hold all
threads; a request that takes longer than the time limit costs its worker's clients their connections, not the service.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.workers.sync import SyncWorker

from attest.web.load import HERE, accept_queue
from attest.web.logs import JsonFormatter

SILENCE_SECONDS = 10.0
READ_SECONDS = 10.0
REQUEST_SECONDS = 30
STOP_SECONDS = 10
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Listener:
    """What one arbiter serves. ``make_app`` runs in each worker, after the fork; ``on_ready`` once per worker. Without
    a context it is plain HTTP. ``threads`` of a worker share its application.
    """

    name: str
    socket: socket.socket
    certificate: Path | None
    context: ssl.SSLContext | None
    workers: int
    make_app: Callable[[], Flask]
    on_ready: Callable[[], None]
    threads: int = 1


class BoundedWorker(SyncWorker):  # type: ignore[misc]  # gunicorn has no types
    """Threads that each serve one connection at a time and wait for a silent or slow client only so long."""

    alive: bool

    def run(self) -> None:
        """Serve until told to stop; what is being answered then is answered."""
        for listening in self.sockets:
            listening.setblocking(False)
        since: dict[int, float] = {}
        threads = [threading.Thread(target=self._serve, args=(since,), daemon=True) for _ in range(self.cfg.threads)]
        for thread in threads:
            thread.start()
        while self.alive and self.is_parent_alive() and all(thread.is_alive() for thread in threads):
            self._report(since)
            HERE.cut_off(time.monotonic() - READ_SECONDS)
            if select.select([self.PIPE[0]], [], [], _LOOK_SECONDS)[0]:
                os.read(self.PIPE[0], 4096)  # a signal came: whatever it was, its handler has run
        self.alive = False
        for thread in threads:
            thread.join()

    def _serve(self, since: dict[int, float]) -> None:
        listening, name = self.sockets[0], threading.get_ident()
        while self.alive:
            select.select([listening], [], [], _LOOK_SECONDS)
            since[name] = time.monotonic()
            try:
                self.accept(listening)
            except (BlockingIOError, ConnectionAbortedError):
                continue  # another thread or process was quicker, or the client has gone
            finally:
                del since[name]

    def _report(self, since: dict[int, float]) -> None:
        """Tell the arbiter since when nothing hangs: it ends a worker that has been at one request for too long."""
        oldest = min([*since.copy().values(), time.monotonic()])
        os.utime(self.tmp.fileno(), (oldest, oldest))

    def handle(self, listener: Any, client: socket.socket, addr: Any) -> None:
        """One connection."""
        HERE.queued = accept_queue(listener)
        client.settimeout(SILENCE_SECONDS)
        HERE.begin(client, time.monotonic())
        try:
            super().handle(listener, client, addr)
        finally:
            HERE.read()


class QuietLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """JSON lines as everywhere; clients that time out or break off are no errors of ours: no traceback."""

    def setup(self, cfg: Any) -> None:
        """Add filter and format to gunicorn's error log."""
        super().setup(cfg)
        self.error_log.addFilter(_client_trouble_is_brief)
        for handler in self.error_log.handlers:
            handler.setFormatter(JsonFormatter())


def _client_trouble_is_brief(record: logging.LogRecord) -> bool:
    trouble = record.exc_info[1] if record.exc_info else None
    if isinstance(trouble, (TimeoutError, ConnectionError, ssl.SSLError)):
        record.exc_info = None
        record.msg, record.args = "client gone: %s", (type(trouble).__name__,)
    return True


def run_listener(listener: Listener) -> None:
    """Serve until SIGTERM or SIGINT. Ends with SystemExit, as gunicorn does; call it in a process of its own."""
    _Application(listener).run()


class _Application(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        super().__init__()

    def load_config(self) -> None:
        """Every setting is ours; neither environment nor files are consulted."""
        listener = self._listener
        settings: dict[str, Any] = {
            "bind": [f"fd://{listener.socket.detach()}"],
            "workers": listener.workers,
            "threads": listener.threads,
            "worker_class": BoundedWorker,
            "logger_class": QuietLogger,
            "timeout": REQUEST_SECONDS,
            "graceful_timeout": STOP_SECONDS,
            "loglevel": "warning",
            "proc_name": f"attest {listener.name}",
            "limit_request_line": 2048,
            "limit_request_fields": 40,
            # Nobody's X-Forwarded-… headers count: there is no proxy in front that we know.
            "forwarded_allow_ips": "",
            "secure_scheme_headers": {},
            "control_socket_disable": True,
            "post_worker_init": lambda worker: listener.on_ready(),
        }
        if listener.context is not None:
            # `certfile` tells gunicorn that this is TLS; the context, which holds it too, decides everything.
            settings |= {"certfile": str(listener.certificate), "ssl_context": lambda config, default: listener.context}
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """The WSGI application, in the worker."""
        return self._listener.make_app()
