"""How a request gets a checkpoint signed now: it rings, and the process that keeps house, which signs them, hears it.

Made before processes are forked, so that both ends have it. A request learns nothing this way but that somebody
listens; what was signed it finds in the database.
"""

from __future__ import annotations

import os
import select
import time
import weakref

PAUSE_SECONDS = 1.0
"""Between two answers, however often somebody rings."""


class Bell:
    """An event counter of the kernel's (eventfd(2))."""

    def __init__(self) -> None:
        self._number = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._number)  # each reload makes one
        self._heard = float("-inf")

    def ring(self) -> None:
        """Ask; asking twice before it is heard is asking once."""
        os.eventfd_write(self._number, 1)

    def wait(self, seconds: float) -> bool:
        """Whether somebody rang within ``seconds``, or before."""
        heard = select.poll()  # select() takes no descriptor above 1023
        heard.register(self._number, select.POLLIN)
        if not heard.poll(seconds * 1000):
            return False
        time.sleep(max(0.0, self._heard + PAUSE_SECONDS - time.monotonic()))
        os.eventfd_read(self._number)
        self._heard = time.monotonic()
        return True
