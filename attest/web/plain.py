"""Requests in the plain form that nearly all have, read without gunicorn's parser; all others go to that.

Plain is: the whole head arrived at once; HTTP/1.1; GET, POST, PUT or DELETE of a path; no field twice, none with an
underscore, nothing that frames a body but one Content-Length in digits; no coding, upgrade or expectation. What this
takes, gunicorn's parser reads alike (a test holds one against the other), and what this does not take is refused or
understood there, so nothing is judged more mildly here.

Sources: RFC 9112 sections 2.2, 3, 5, 6.3 and 9; RFC 9110 sections 5.5, 5.6.2.
"""

from __future__ import annotations

import io
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

MAX_REQUEST_LINE = 2048
MAX_FIELDS = 40
MAX_FIELD = 8190
"""Characters of the request line without its end; fields; characters of one field with its end."""
READ_BYTES = 16384
"""What is asked of a connection at once: a TLS record."""
_HEAD = re.compile(
    r"(GET|POST|PUT|DELETE) (/(?:[!-\"$-.0-~][!-\"$-~]*+)?) HTTP/1\.1\r\n"
    r"((?:[!#$%&'*+.^`|~0-9A-Za-z-]++:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*+)"
)
_FIELD = re.compile(r"([^:\r\n]++):([^\r\n]*+)\r\n")
_LENGTH = re.compile(r"[0-9]{1,15}")
_ELSEWHERE = frozenset(("TRANSFER-ENCODING", "TE", "TRAILER", "UPGRADE", "HTTP2-SETTINGS", "EXPECT"))
_NO_BODY = ("204", "304")
Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """A head: ``length`` is that of its body, ``close`` whether its client wants no more answers; ``fields`` are the
    members of the environment that its fields give; ``rest`` is what came behind the head.
    """

    method: str
    target: str
    fields: dict[str, str]
    length: int
    close: bool
    rest: bytes


def parse_plain(data: bytes) -> PlainRequest | None:
    """The request at the beginning of ``data``; ``None`` where it is not complete or not plain."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = _HEAD.fullmatch(data[: end + 2].decode("latin-1"))
    if head is None or len(head[1]) + len(head[2]) + 10 > MAX_REQUEST_LINE:
        return None
    found = _FIELD.findall(head[3])
    fields = _fields(found)
    if fields is None:
        return None
    length = fields.get("CONTENT_LENGTH", "0")
    wish = fields.get("HTTP_CONNECTION", "keep-alive").lower()
    if not _LENGTH.fullmatch(length) or wish not in ("keep-alive", "close"):
        return None
    return PlainRequest(head[1], head[2], fields, int(length), wish == "close", data[end + 4 :])


def _fields(found: Sequence[tuple[str, str]]) -> dict[str, str] | None:
    if len(found) > MAX_FIELDS:
        return None
    fields: dict[str, str] = {}
    for name, value in found:
        key = _key(name)
        if key is None or key in fields or len(name) + len(value) + 3 > MAX_FIELD:
            return None
        fields[key] = value.strip(" \t")
    return fields


@lru_cache(256)
def _key(name: str) -> str | None:
    """The member of the environment for a field (PEP 3333), ``None`` for one that is not plain."""
    upper = name.upper()
    if upper in _ELSEWHERE:
        return None
    key = upper.replace("-", "_")
    return key if key in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{key}"


class PlainBody(io.RawIOBase):
    """``wsgi.input`` of a request whose body is ``length`` bytes long, of which ``first`` came with its head."""

    def __init__(self, first: bytes, length: int, receive: Callable[[int], bytes]) -> None:
        self._first, self.left, self._receive = first, length, receive

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, all that is left where it is negative; fewer only at the end, or where the client
        ended the connection.
        """
        wanted = self.left if size < 0 else min(size, self.left)
        part, self._first = self._first[:wanted], self._first[wanted:]
        parts = [part]
        self.left -= len(part)
        wanted -= len(part)
        while wanted and (part := self._receive(wanted)):
            parts.append(part)
            self.left -= len(part)
            wanted -= len(part)
        return b"".join(parts)

    def after(self) -> bytes:
        """What came behind the body, once that was read to its end."""
        return self._first


def environ_of(base: dict[str, Any], request: PlainRequest, body: PlainBody, peer: Any) -> dict[str, Any]:
    """The WSGI environment (PEP 3333); ``base`` has what is the same for every request of a connection."""
    path, _, query = request.target.partition("?")
    return {
        **base,
        **request.fields,
        "REQUEST_METHOD": request.method,
        "RAW_URI": request.target,
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1") if "%" in path else path,
        "QUERY_STRING": query,
        "REMOTE_ADDR": peer[0],
        "REMOTE_PORT": str(peer[1]),
        "wsgi.input": body,
    }


class PlainReply:
    """An answer on its way; :meth:`start_response` is WSGI's. Head and body leave together."""

    __slots__ = ("_head", "_may_stay", "_measured", "_sent", "_socket", "close")

    def __init__(self, client: socket.socket, close: bool, may_stay: Callable[[], bool]) -> None:
        self._socket, self.close, self._may_stay = client, close, may_stay
        self._head, self._measured, self._sent = "", False, False

    def start_response(self, status: str, headers: Headers, exc_info: object = None) -> Callable[[bytes], None]:
        """Keep the head. Raises ValueError for one that would be read as more than it says."""
        lines = [f"{name}: {value}\r\n" for name, value in headers]
        head = f"HTTP/1.1 {status}\r\n{''.join(lines)}"
        if not head.count("\r") == head.count("\n") == len(lines) + 1:
            raise ValueError("a header of the answer holds an end of line")
        self._measured = status[:3] in _NO_BODY or any(name.lower() == "content-length" for name, _ in headers)
        self._head = head
        return self.write

    def write(self, data: bytes) -> None:
        """Send a part of the body, the first with the head."""
        if self._sent:
            self._socket.sendall(data)
            return
        self._sent = True
        # A body of unknown length ends with the connection (RFC 9112, section 6.3).
        self.close = self.close or not self._measured or not self._may_stay()
        last = f"Date: {_date(int(time.time()))}\r\nConnection: {'close' if self.close else 'keep-alive'}\r\n\r\n"
        self._socket.sendall((self._head + last).encode("latin-1") + data)

    def end(self) -> None:
        """The head alone, where there was no body."""
        if not self._sent:
            self.write(b"")


@lru_cache(2)
def _date(now: int) -> str:
    return formatdate(now, usegmt=True)
