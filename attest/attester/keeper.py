"""The attestation of a running guest: kept fresh, and what it gives to programs inside the guest.

One session at a time, used by one thread at a time. A token's life is taken from the token (``exp - iat``) and measured
on the clock that nobody sets; at four fifths of it the next use attests again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from attest.attester.errors import ServiceUnavailable, SessionLost
from attest.attester.kbs import token_lifetime
from attest.attester.session import Session
from policy.secret import SecretBytes
from policy.vocab import ResourcePath

FRESH = 0.8
WAIT_SECONDS = 40.0


class Keeper:
    """Holds the session; ``new_session`` makes another one, not attested yet. After a refusal there is none."""

    def __init__(self, new_session: Callable[[], Session], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._new_session = new_session
        self._clock = clock
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._stale = 0.0

    def token(self) -> tuple[str, bytes]:
        """A fresh token, and the private key (PKCS #8 PEM) its resources are wrapped to."""
        with self._locked():
            session = self._current()
            return session.token, session.key_pem()

    def resource(self, path: ResourcePath) -> SecretBytes:
        """The resource as it is now. Raises Refused, SecretNotFound, ServiceUnavailable and what an exchange raises."""
        with self._locked():
            try:
                return self._current().secret(path)
            except SessionLost:
                self._session = None  # it has lost three handshakes: the next one starts over
                return self._current().secret(path)

    def attest_again(self) -> str:
        """A new session, whatever the old one's age; its token. Raises Refused, and then nothing is given any more."""
        with self._locked():
            self._session = None
            return self._current().token

    def _current(self) -> Session:
        if self._session is None or self._clock() >= self._stale:
            self._session = None
            session = self._new_session()
            started = self._clock()
            session.attest()
            self._session, self._stale = session, started + FRESH * token_lifetime(session.token)
        return self._session

    def _locked(self) -> _Locked:
        return _Locked(self._lock)


class _Locked:
    """The lock, waited for as long as a program inside the guest can be expected to wait."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=WAIT_SECONDS):
            raise ServiceUnavailable("the agent is busy with another request")

    def __exit__(self, *problem: object) -> None:
        self._lock.release()
