"""Logs: one JSON object a line on standard error, and nothing secret in it.

A request's line has method, path, route, status, milliseconds, the peer's address and the error's code. It has no
header, no query, no body: cookies, tokens, nonces and keys travel in those. Paths are names. JSON escapes whatever
could drive a terminal or forge a second line.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

MAX_TRACEBACK = 8000
FIELDS = "fields"
"""``extra={FIELDS: {…}}`` adds members to a line."""


class JsonFormatter(logging.Formatter):
    """Members ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, then the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line without its end."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": f"{time[:-6]}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)[-MAX_TRACEBACK:]
        return json.dumps(line)


def log_to_stderr() -> None:
    """Everything the service logs goes to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # What no line shows is not looked up for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # the library's documentation names this way ("Optimization")
