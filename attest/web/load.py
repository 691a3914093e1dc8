"""How much waits in front of this worker: the accept queue of its listening socket, as the kernel counts it.

A synchronous worker handles one request at a time; what arrives meanwhile waits in the kernel. A guest that has waited
for a minute has given up, and work done for it is lost, so beyond a bound the worker says 503 at once instead of
working off a queue that only grows. Health checks are answered all the same: a balancer must not take every replica
out of service because all are busy.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

# struct tcp_info (linux/tcp.h): eight bytes, then 32-bit words; of a listening socket the fifth, tcpi_unacked, is the
# number of connections that wait to be accepted.
_UNACKED = struct.Struct("=24xI")


@dataclass
class Load:
    """Connections waiting when this worker took its last one."""

    queued: int = 0


HERE = Load()
"""Of this process. gunicorn makes its workers itself, so what they know is passed on through the module."""


def accept_queue(listening: socket.socket) -> int:
    """Connections that wait to be accepted; 0 where the kernel does not say."""
    try:
        return int(_UNACKED.unpack_from(listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28))[0])
    except (OSError, struct.error):
        return 0
