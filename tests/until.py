"""Waiting for something another process does."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 120.0
"""Seconds. It ends a test that hangs; how fast anything is, no test says: a busy machine is many times slower."""


def until(true: Callable[[], object], what: str = "", seconds: float = PATIENCE) -> None:
    """Ask again and again until ``true`` says something true. Raises AssertionError that names ``what`` never came."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what or true}"
        time.sleep(0.05)
