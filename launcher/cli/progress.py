"""Progress of a long verb, one line at a time on standard error."""

from __future__ import annotations

import sys


def show(text: str) -> None:
    """Write one line now; standard output stays free for the result."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
