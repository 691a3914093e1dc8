"""A WSGI application and clients that call it without a server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from werkzeug.test import Client, TestResponse

from attest.web.listener import Wsgi
from attest.web.requests import Environ


class LocalClient(Client):
    """A client on this machine."""

    def open(self, *args: Any, environ_base: Environ | None = None, **words: Any) -> TestResponse:
        base = {"REMOTE_ADDR": "127.0.0.1", **(environ_base or {})}
        return super().open(*args, environ_base=base, **words)


@dataclass(frozen=True)
class Tried:
    """The application, itself one."""

    application: Wsgi

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        return self.application(environ, start_response)

    def test_client(self, *, use_cookies: bool = True) -> LocalClient:
        """A client with cookies of its own, or without."""
        return LocalClient(self, use_cookies=use_cookies)
