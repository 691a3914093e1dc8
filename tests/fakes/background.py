"""What every made-up service does: answer in a thread of its own, from ``with`` to the end of it."""

from __future__ import annotations

import threading
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Self


class Background:
    """A context manager around ``_server``; ``_stop`` is set at its end, for answers that are slow on purpose."""

    _server: ThreadingHTTPServer
    _stop: threading.Event

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
