"""Who is logged in at the pages, in the memory of their process: a restart ends every session.

A session lasts a fixed time from its login, used or not. The browser holds a random number; here is only its digest, so
that a look at this memory gives nobody a session. The process has one worker where logins are on, and its threads share
this.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from attest.web.dashboard.visitors import Visitor

MOST = 1000
"""Sessions at a time; the one that ends first makes place."""
_CSRF = b"attest.logout/1"


@dataclass
class Sessions:
    """For any number of threads; ``life`` is how long a session lasts."""

    life: timedelta
    _known: dict[bytes, tuple[Visitor, datetime]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def open(self, visitor: Visitor, now: datetime) -> str:
        """Begin a session; returns what the browser shows from then on."""
        shown = os.urandom(32).hex()
        with self._lock:
            self._known = {key: entry for key, entry in self._known.items() if entry[1] > now}
            if len(self._known) >= MOST:
                del self._known[min(self._known, key=lambda key: self._known[key][1])]
            self._known[_digest(shown)] = visitor, now + self.life
        return shown

    def visitor(self, shown: str, now: datetime) -> Visitor | None:
        """Whose session it is, with the word that a change must bring; ``None`` for one that ended or never was."""
        with self._lock:
            entry = self._known.get(_digest(shown))
        if entry is None or entry[1] <= now:
            return None
        return Visitor(entry[0].role, entry[0].name, csrf=csrf_word(shown))

    def close(self, shown: str) -> None:
        """End it."""
        with self._lock:
            self._known.pop(_digest(shown), None)


def csrf_word(shown: str) -> str:
    """What only a page made for this session holds."""
    return hmac.new(shown.encode(), _CSRF, hashlib.sha256).hexdigest()


def _digest(shown: str) -> bytes:
    return hashlib.sha256(shown.encode()).digest()
