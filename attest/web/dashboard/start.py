"""How ``attest serve`` starts the dashboard: as a program of its own that inherits one listening socket and no key.

A forked child would carry the parent's memory, master key and signing keys included. So the child executes the program
``attest dashboard`` anew: of the parent it has the socket, the settings' path, and a pipe to say that it is ready.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from attest.settings_keys import CREDENTIALS_DIRECTORY


def start_dashboard(config: Path, listening: int, ready: int, before: Callable[[], None]) -> int:
    """Fork and execute; returns the child's process id. ``before`` runs in the child first."""
    child = os.fork()
    if child:
        return child
    try:
        before()
        for number in (listening, ready):
            os.set_inheritable(number, True)
        words = ["dashboard", str(config), "--listen-fd", str(listening), "--ready-fd", str(ready)]
        environment = {name: value for name, value in os.environ.items() if name != CREDENTIALS_DIRECTORY}
        os.execve(sys.executable, [sys.executable, "-m", "attest", *words], environment)  # noqa: S606  # no shell, on purpose
    finally:
        os._exit(1)
