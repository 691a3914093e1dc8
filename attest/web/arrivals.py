"""What has come for one worker: new connections, and kept ones that say something again.

Threads take turns at looking: one waits in the kernel for everything at once, takes one connection, and lets the next
thread look while it serves. So a connection that waits for its client's next request holds no thread, and one that
arrives wakes one thread, not all. New connections are accepted only by a thread that serves them at once: what
waits for a thread waits in the kernel, where it is counted.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

from gunicorn import http, sock

from attest.web.load import accept_queue

IDLE_SECONDS = 15.0
"""How long a kept connection may say nothing. A guest makes its evidence between two requests."""
MOST_IDLE = 256
"""Kept connections of one worker that wait for their client; beyond that answers close theirs."""
_LOOK_SECONDS = 0.5
_GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Connection:
    """One client's connection. ``born`` and ``since`` (when it became idle) are monotonic seconds."""

    __slots__ = ("address", "born", "client", "parser", "since")

    def __init__(self, client: socket.socket, address: Any) -> None:
        self.client, self.address = client, address
        self.born = self.since = time.monotonic()
        self.parser: Any = None

    def next_request(self, config: Any) -> Any:
        """Wait for a request's head, at first for the handshake too. Raises what gunicorn and ``ssl`` do."""
        if self.parser is None:
            if config.is_ssl:
                self.client = sock.ssl_wrap_socket(self.client, config)
            self.parser = http.get_parser(config, self.client, self.address)
        return next(self.parser)

    def requests(self) -> int:
        """How many it has made."""
        return 0 if self.parser is None else int(self.parser.req_count)

    def has_more(self) -> bool:
        """Whether the next request, or a part of it, was read already: the kernel would not tell of it again."""
        pending = getattr(self.client, "pending", None)
        return bool(self.parser.unreader.buf.getbuffer().nbytes or (pending is not None and pending()))

    def end(self) -> None:
        """Close it; nothing is on its way."""
        with suppress(OSError):  # the client was quicker
            self.client.shutdown(socket.SHUT_RDWR)
        self.client.close()


class Arrivals:
    """Of one worker; make it after the fork. ``listening`` does not block."""

    def __init__(self, listening: Any) -> None:
        self._listening = listening
        self._turn, self._lock = threading.Lock(), threading.Lock()
        self._idle: dict[int, Connection] = {}
        self._ready: deque[Connection] = deque()
        self._stopped = self._accepted = False
        self._swept = 0.0
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        # Of several workers that wait for a connection the kernel wakes one.
        self._epoll.register(listening.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self._epoll.register(self._wake, select.EPOLLIN)

    def next(self) -> Connection | None:
        """Wait for a connection to serve; ``None`` when stopped and every kept one that has spoken is served."""
        with self._turn:
            while True:
                found = self._pick(self._look())
                if found is not None or self._stopped:
                    return found

    def waiting(self) -> int:
        """Connections that wait for a thread."""
        return accept_queue(self._listening) + len(self._ready)

    def has_room(self) -> bool:
        """Whether another connection may be kept."""
        return not self._stopped and len(self._idle) < MOST_IDLE

    def keep(self, connection: Connection) -> None:
        """Its request was answered: look out for its next one."""
        connection.since = time.monotonic()
        number = connection.client.fileno()
        with self._lock:
            self._idle[number] = connection
            self._epoll.register(number, select.EPOLLIN | select.EPOLLRDHUP)

    def stop(self) -> None:
        """Accept nothing more, and wake whoever waits."""
        self._stopped = True
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """End all kept connections; no thread may be using this any more."""
        for connection in (*self._idle.values(), *self._ready):
            connection.end()
        self._epoll.close()
        os.close(self._wake)

    def _look(self) -> bool:
        """Take note of kept connections that say something, end those that were silent for too long; whether there is
        a new one. Only here, in turns, are idle connections ended: a number that the kernel has just named must still
        mean the same connection.
        """
        patience = 0 if self._ready or self._stopped else _LOOK_SECONDS
        seen = dict(self._epoll.poll(patience, MOST_IDLE))
        with self._lock:
            gone = [number for number, event in seen.items() if event & _GONE and number in self._idle]
            over = [self._taken(number) for number in {*gone, *self._silent(time.monotonic())}]
            self._ready += [self._taken(number) for number in seen if number in self._idle]
        for connection in over:
            connection.end()
        return self._listening.fileno() in seen

    def _silent(self, now: float) -> list[int]:
        """Those that said nothing for too long; looked for now and then, for it means going through all of them."""
        if now - self._swept < _LOOK_SECONDS:
            return []
        self._swept = now
        return [number for number, connection in self._idle.items() if connection.since < now - IDLE_SECONDS]

    def _taken(self, number: int) -> Connection:
        self._epoll.unregister(number)
        return self._idle.pop(number)

    def _pick(self, comes: bool) -> Connection | None:
        """A new connection or a kept one, in turns where there are both."""
        if self._ready and (self._stopped or self._accepted or not comes):
            self._accepted = False
            return self._ready.popleft()
        if not comes or self._stopped:
            return None
        self._accepted = True
        try:
            return Connection(*self._listening.accept())
        except (BlockingIOError, ConnectionAbortedError):
            return None  # another process was quicker, or the client has gone
