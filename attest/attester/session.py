"""A handshake that survives a network which is not up yet, and nothing else.

Retried: no route, refused or reset connections, timeouts, 429, 5xx (with a pause, until the patience is spent) and a
lost session (a whole new handshake with a new key and a new report, three in all). Never retried: a refusal, an
unknown resource, a server that is not the pinned one, an answer that is not the protocol.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import chain, repeat
from typing import NamedTuple, TypeVar

from attest.attester.binding import report_data
from attest.attester.disk_key import MEMBER, DiskKey, disk_facts
from attest.attester.errors import ServiceUnavailable, SessionLost
from attest.attester.jwe import GuestKey
from attest.attester.kbs import KbsClient, token_end
from policy.secret import SecretBytes
from policy.vocab import ResourcePath

T = TypeVar("T")
PATIENCE_SECONDS = 120.0
PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
MAX_HANDSHAKES = 3
SPARE_SECONDS = 30


class Pace(NamedTuple):
    """Clock and sleep, injected so that tests do not wait."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    patience: float = PATIENCE_SECONDS


Evidence = Callable[[bytes], dict[str, object]]


class Session:
    """Attests when needed and fetches secrets.

    ``evidence`` maps 64 bytes of REPORT_DATA to the protocol's evidence; ``tell`` takes what a person should know.
    """

    def __init__(
        self,
        client: KbsClient,
        tee: str,
        evidence: Evidence,
        *,
        pace: Pace | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._client = client
        self._tell = tell
        self._said = ""
        self._tee = tee
        self._evidence = evidence
        self._pace = pace or Pace()
        self._lost = 0
        self._key: GuestKey | None = None
        self.token = ""

    def attest(self) -> str:
        """One handshake, repeated while the service cannot be reached; the token."""
        self._patiently(self._handshake)
        return self.token

    def secret(self, path: ResourcePath) -> SecretBytes:
        """The secret stored as ``path``."""
        return self._patiently(lambda: self._fetch(path))

    def disk_key(self, path: ResourcePath) -> DiskKey:
        """The key of a disk, what the service knows of its header, and the key that shall replace it."""
        return self._patiently(lambda: self._fetch_disk_key(path))

    def report_header(self, path: ResourcePath, version: int, digest: str, step: str) -> None:
        """Tell the service which header the disk *will* have, *has*, or has *only*. In the session the keys came in:
        raises SessionLost where that is over, and begins no other.
        """
        patiently(lambda: self._client.report_header(path, version, digest, step), self._pace, self._say)

    def key_pem(self) -> bytes:
        """The private key of the present session; raises SessionLost before one is attested."""
        if self._key is None:
            raise SessionLost("no attestation is in force")
        return self._key.pem()

    def credential(self, now: float) -> tuple[str, GuestKey]:
        """A token with at least ``SPARE_SECONDS`` left, and its key: the accepted one, or that of a new attestation.
        Raises what :meth:`attest` raises. ``now``: seconds since 1970, by this guest's clock.
        """
        if self._key is None or token_end(self.token) < now + SPARE_SECONDS:
            self.attest()
        if self._key is None:
            raise TypeError("an attestation has a key")
        return self.token, self._key

    def _handshake(self) -> GuestKey:
        key = GuestKey()
        public = key.jwk()
        challenge = self._client.challenge(self._tee)
        evidence = self._evidence(report_data(challenge.nonce, public, algorithm=challenge.algorithm))
        self.token = self._client.attest(challenge, public, evidence)
        self._key = key
        return key

    def _fetch(self, path: ResourcePath) -> SecretBytes:
        return self._released(lambda key: key.open(self._client.resource(path)))

    def _fetch_disk_key(self, path: ResourcePath) -> DiskKey:
        return self._released(lambda key: opened_disk_key(key, self._client.resource(path, disk=True)))

    def _released(self, fetch: Callable[[GuestKey], T]) -> T:
        key = self._key or self._handshake()
        try:
            return fetch(key)
        except SessionLost:
            self._key = None
            raise

    def _patiently(self, action: Callable[[], T]) -> T:
        return patiently(lambda: self._once(action), self._pace, self._say)

    def _once(self, action: Callable[[], T]) -> T:
        """A lost session is as good as a service that is away for a moment, three times in all."""
        try:
            return action()
        except SessionLost as exc:
            self._lost += 1
            if self._lost >= MAX_HANDSHAKES:
                raise
            raise _Again(exc.message) from None

    def _say(self, text: str) -> None:
        """Each new problem once: somebody may be looking at a console where nothing else moves for minutes."""
        if text != self._said:
            self._said = text
            self._tell(text)


def opened_disk_key(key: GuestKey, answer: dict[str, object]) -> DiskKey:
    """The key in force and, while there is one, the next. Raises ServiceMalformed."""
    facts = disk_facts(answer.pop(MEMBER, None))
    return DiskKey(key.open(answer), facts, None if facts.next is None else key.open(facts.next.wrapped))


class _Again(ServiceUnavailable):
    """To be tried again whatever the time."""


def patiently(action: Callable[[], T], pace: Pace, tell: Callable[[str], None]) -> T:
    """The result of ``action``, repeated with growing pauses while the service cannot be reached and patience lasts."""
    deadline = pace.clock() + pace.patience
    pauses = chain(PAUSES, repeat(PAUSES[-1]))
    while True:
        pause = next(pauses)
        try:
            return action()
        except ServiceUnavailable as exc:
            if not isinstance(exc, _Again) and pace.clock() + pause > deadline:
                raise
            tell(f"{exc.message}; trying again")
        pace.sleep(pause)
