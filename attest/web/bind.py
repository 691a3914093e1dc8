"""Listening sockets, bound before anything is started on them."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from attest.errors import AttestError
from attest.settings_parts import Address

_BACKLOG = 512
_DEFER_SECONDS = 5


class AddressUnavailable(AttestError):
    """An address that cannot be listened on."""

    code = "server.address"


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound socket and the URL it answers at."""

    socket: socket.socket
    url: str


def bind(address: Address, scheme: str = "https") -> Bound:
    """A listening socket. Raises AddressUnavailable."""
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
        # A connection reaches a worker only once it says something: silent ones wait in the kernel.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)
    except OSError as exc:
        raise AddressUnavailable(f"address {address}: cannot listen: {exc.strerror or exc}") from None
    host, port = listening.getsockname()[:2]
    return Bound(listening, f"{scheme}://{Address(host, port)}")
