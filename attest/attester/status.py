"""What the guest tells the outside: JSON lines for the launcher, plain words for the console.

The launcher reads the lines from the virtio-serial port ``org.cvm.status``. It believes none of them (the guest is
not its friend either); they only let a person watch. Nothing secret is ever written here: the host sees all of it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

PORT_NAME = "org.cvm.status"
MAX_LINE = 8192
EVENTS = frozenset(
    ("booted", "evidence", "attested", "refused", "unlocked", "payload-output", "running", "failed", "stopped")
)


class Status:
    """Writes each event to the port (when there is one) and a sentence to the console.

    ``port`` and ``console`` take bytes; ``clock`` gives seconds since boot.
    """

    def __init__(
        self, port: Callable[[bytes], object] | None, console: Callable[[bytes], object], clock: Callable[[], float]
    ) -> None:
        self._port = port
        self._console = console
        self._clock = clock
        self._turn = threading.RLock()  # lines of several threads do not mix

    def event(self, event: str, text: str = "", /, **detail: object) -> None:
        """Report ``event`` with ``detail``; ``text`` is the same for a person, empty to keep the console quiet."""
        if event not in EVENTS:
            raise ValueError(f"status event {event!r} is not in the protocol")
        with self._turn:
            if self._port is not None:
                line = self._line(event, detail)
                try:
                    self._port(line)
                except OSError as exc:
                    self._port = None  # nobody listens any more: the work goes on
                    self.say(f"status port lost: {exc.strerror}")
            if text:
                self.say(text)

    def say(self, text: str) -> None:
        """A sentence for whoever looks at the console; control characters are replaced."""
        for part in text.splitlines() or [""]:
            clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in part)
            with self._turn:
                try:
                    self._console(f"cvm: {clean}\r\n".encode())
                except OSError:
                    return

    def _line(self, event: str, detail: dict[str, object]) -> bytes:
        head: dict[str, object] = {"v": 1, "event": event, "time": round(self._clock(), 3)}
        for limit in (MAX_LINE, 1000, 300, 100, 30, 0):
            shortened = {name: _shorten(value, limit) for name, value in detail.items()}
            line = json.dumps(head | {"detail": shortened}, separators=(",", ":")).encode("ascii")
            if len(line) < MAX_LINE:
                return line + b"\n"
        return json.dumps(head | {"detail": {}}, separators=(",", ":")).encode("ascii") + b"\n"


def _shorten(value: object, limit: int) -> object:
    """Strings cut to ``limit`` characters, lists to a tenth as many items: a shorter reason is better than none."""
    if isinstance(value, str):
        return value if len(value) <= limit else value[:limit] + "\N{HORIZONTAL ELLIPSIS}"
    if isinstance(value, list):
        return [_shorten(item, limit) for item in value[: max(1, limit // 10)]]
    return value
