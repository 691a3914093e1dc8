"""A worker: a few threads that each answer one request at a time, over connections that may be kept.

They are threads of one process because what they write at the same time is flushed to the disk once. A connection that
says nothing is dropped after a few seconds, in the handshake too. A client that says little at a time has READ_SECONDS
for a request (for handshake and first request together), so that a few of them cannot hold all threads; a request
that takes longer than the time limit costs its worker's clients their connections, not the service.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.http import wsgi
from gunicorn.http.body import LengthReader
from gunicorn.http.errors import NoMoreData
from gunicorn.workers.base import Worker

from attest.web.arrivals import Arrivals, Connection
from attest.web.load import HERE

SILENCE_SECONDS = 10.0
READ_SECONDS = 10.0
MOST_REQUESTS = 100
LONGEST_SECONDS = 300.0
"""A connection is kept for so many requests and so long, then its client makes a new one: to whichever worker has time,
and under the certificates of today.
"""
GARBAGE = 50_000
"""So many more objects than were freed, until the collector looks at the new ones."""
_LOOK_SECONDS = 0.5
_CLIENT_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)


class WholeResponse(wsgi.Response):  # type: ignore[misc]  # gunicorn has no types
    """Head and body leave together: one TLS record and one system call."""

    headers_sent: bool
    must_close: bool
    _head = b""

    def __init__(self, request: Any, client: Any, config: Any, may_stay: Callable[[], bool]) -> None:
        super().__init__(request, client, config)
        self._may_stay = may_stay

    def should_close(self) -> bool:
        """As HTTP has it, and where a body was not read: what follows it is no request."""
        return bool(super().should_close()) or not _was_read(self.req)

    def send_headers(self) -> None:
        """Keep them until there is a body, or none."""
        if not self.headers_sent:
            self.must_close = self.must_close or not self._may_stay()
            lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
            self._head, self.headers_sent = "".join(lines).encode("latin-1"), True

    def _emit_body(self, data: bytes) -> None:
        head, self._head = self._head, b""
        if self.chunked:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        self.sock.sendall(head + data)

    def close(self) -> None:
        """What was kept, and the end of a body in chunks."""
        self.send_headers()
        if self._head or self.chunked:
            self.sock.sendall(self._head + (b"0\r\n\r\n" if self.chunked else b""))
            self._head = b""


def collect_rarely() -> None:
    """What is here before the first request stays, so it is not looked through for garbage again; and requests leave
    little that only a collection frees, so it comes after many of them instead of several times in each.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 20)


def _was_read(request: Any) -> bool:
    """Whether the body was read to its end, as far as its length says so."""
    reader = request.body.reader
    return isinstance(reader, LengthReader) and reader.length == 0


class BoundedWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """Threads that wait for a silent or slow client only so long."""

    alive: bool
    _arrivals: Arrivals

    def run(self) -> None:
        """Serve until told to stop; what is being answered then is answered."""
        collect_rarely()
        self.sockets[0].setblocking(False)
        self._arrivals, since = Arrivals(self.sockets[0]), dict[int, float]()
        threads = [threading.Thread(target=self._serve, args=(since,), daemon=True) for _ in range(self.cfg.threads)]
        for thread in threads:
            thread.start()
        while self.alive and self.ppid == os.getppid() and all(thread.is_alive() for thread in threads):
            self._report(since)
            HERE.cut_off(time.monotonic() - READ_SECONDS)
            if select.select([self.PIPE[0]], [], [], _LOOK_SECONDS)[0]:
                os.read(self.PIPE[0], 4096)  # a signal came: whatever it was, its handler has run
        self.alive = False
        self._arrivals.stop()
        for thread in threads:
            thread.join()
        self._arrivals.close()

    def _serve(self, since: dict[int, float]) -> None:
        name = threading.get_ident()
        while (connection := self._arrivals.next()) is not None:
            HERE.queued = self._arrivals.waiting()
            kept = more = True
            while more:
                since[name] = time.monotonic()
                try:
                    kept = self._answer(connection)
                finally:
                    del since[name]
                more = kept and connection.has_more()
            if kept:
                self._arrivals.keep(connection)
            else:
                util.close_graceful(connection.client)

    def _report(self, since: dict[int, float]) -> None:
        """Tell the arbiter since when nothing hangs: it ends a worker that has been at one request for too long."""
        oldest = min([*since.copy().values(), time.monotonic()])
        os.utime(self.tmp.fileno(), (oldest, oldest))

    def _answer(self, connection: Connection) -> bool:
        """One request of a connection; whether it is kept."""
        connection.client.settimeout(SILENCE_SECONDS)
        HERE.begin(connection.client, time.monotonic())
        request = None
        try:
            request = connection.next_request(self.cfg)
            return self._reply(connection, request)
        except (NoMoreData, StopIteration, ssl.SSLEOFError):
            return False  # the client has ended it
        except Exception as exc:  # noqa: BLE001  whatever it is costs this client its connection, not all of them the worker
            self._trouble(connection, request, exc)
            return False
        finally:
            HERE.read()

    def _reply(self, connection: Connection, request: Any) -> bool:
        where = self.sockets[0].getsockname()
        response, environ = wsgi.create(
            request, connection.client, connection.address, where, self.cfg,
            response_class=WholeResponse, response_args=(partial(self._may_stay, connection),),
        )  # fmt: skip
        parts = self.wsgi(environ, response.start_response)
        try:
            for part in parts:
                response.write(part)
            response.close()
        finally:
            if hasattr(parts, "close"):
                parts.close()
        return not response.should_close()

    def _may_stay(self, connection: Connection) -> bool:
        young = time.monotonic() - connection.born < LONGEST_SECONDS
        return self.alive and young and connection.requests() < MOST_REQUESTS and self._arrivals.has_room()

    def _trouble(self, connection: Connection, request: Any, error: Exception) -> None:
        """Answer what can still be answered; a client that has gone is no error of ours."""
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            if error.errno not in _CLIENT_GONE:
                self.log.error("Socket error processing request.", exc_info=error)
        else:
            self.handle_error(request, connection.client, connection.address, error)
