"""The time as it is written down: UTC, in the form of :meth:`datetime.datetime.isoformat`, without loading that."""

from __future__ import annotations

import time


def now() -> str:
    """To the second: ``2026-01-01T00:00:00+00:00``."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())


def now_in_milliseconds() -> str:
    """``2026-01-01T00:00:00.000+00:00``."""
    seconds, rest = divmod(time.time_ns(), 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 10**6:03d}+00:00"
