"""An HTTP answer as handlers make it, with the few things ours need of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus

JSON = "application/json"
_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


@dataclass(slots=True)
class Response:
    """``mimetype`` is the whole Content-Type. Text goes out as UTF-8. ``headers`` are beside type and length; nothing
    in them may come from a client as it was sent.
    """

    body: bytes | str = b""
    status: int = 200
    mimetype: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    def data(self) -> bytes:
        """The body as it goes out."""
        return self.body if isinstance(self.body, bytes) else self.body.encode()

    def status_line(self) -> str:
        """Number and phrase."""
        return _STATUS_LINES[self.status]


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(json.dumps(value), status, headers=headers or {})


def cookie_for(path: str, name: str, value: str, expires: datetime) -> str:
    """The value of Set-Cookie (RFC 6265) for what only this service gets, over TLS, never a script."""
    until = format_datetime(expires, usegmt=True)
    return f"{name}={value}; Expires={until}; Secure; HttpOnly; Path={path}; SameSite=Strict"
