"""One listener: a gunicorn arbiter with workers (:mod:`attest.web.worker`) on a socket that is already bound."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from attest.web.logs import JsonFormatter
from attest.web.worker import BoundedWorker

REQUEST_SECONDS = 30
STOP_SECONDS = 10


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

    def reload(self) -> None:
        """gunicorn's own SIGHUP gives workers new ones and nothing more: settings are read again by the parent."""

    def load(self) -> Flask:
        """The WSGI application, in the worker."""
        return self._listener.make_app()
