"""How much waits in front of this worker: the accept queue of its listening socket, as the kernel counts it.

A synchronous worker handles one request at a time; what arrives meanwhile waits in the kernel. A guest that has waited
for a minute has given up, and work done for it is lost, so beyond a bound the worker says 503 at once instead of
working off a queue that only grows. Health checks are answered all the same: a balancer must not take every replica
out of service because all are busy.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field

# struct tcp_info (linux/tcp.h): eight bytes, then 32-bit words; of a listening socket the fifth, tcpi_unacked, is the
# number of connections that wait to be accepted.
_UNACKED = struct.Struct("=24xI")


@dataclass
class Load:
    """Connections waiting when this worker took its last one; and those whose request still comes in, by thread.

    Of those a second descriptor is kept: when a request takes too long, another thread ends the connection under the
    one that waits for it.
    """

    queued: int = 0
    _reading: dict[int, tuple[float, socket.socket]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, client: socket.socket, now: float) -> None:
        """This thread waits for a request of ``client`` since ``now`` (monotonic seconds)."""
        with self._lock:
            second = socket.fromfd(client.fileno(), client.family, client.type)  # a TLS socket has no dup()
            self._reading[threading.get_ident()] = now, second

    def read(self) -> None:
        """The request of this thread's connection is complete, or the connection over."""
        with self._lock:
            _, client = self._reading.pop(threading.get_ident(), (0.0, None))
            if client is not None:
                client.close()

    def cut_off(self, before: float) -> None:
        """End every connection whose request was waited for since ``before`` and is not complete."""
        with self._lock:
            for since, client in self._reading.values():
                if since < before:
                    with suppress(OSError):  # the client was quicker
                        client.shutdown(socket.SHUT_RDWR)


HERE = Load()
"""Of this process. gunicorn makes its workers itself, so what they know is passed on through the module."""


def accept_queue(listening: socket.socket) -> int:
    """Connections that wait to be accepted; 0 where the kernel does not say."""
    try:
        return int(_UNACKED.unpack_from(listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28))[0])
    except (OSError, struct.error):
        return 0
