"""Routes as data: method, path, who may use it, how large a body may be. What is not in a table does not exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from flask import Response

from attest.audit.record import Actor
from attest.broker.release import Credential
from attest.broker.service import Service
from attest.settings_roles import Duty
from attest.web.duties import EVERYTHING, Roles
from attest.web.health import HEALTH
from attest.web.metrics import Metrics
from attest.web.principals import Who


@dataclass(frozen=True, slots=True)
class Call:
    """One request as a handler sees it. ``actor`` is set on operators' routes only, ``arguments`` by the path,
    ``peer`` is the address the connection came from, ``roles`` say which operator may do what."""

    service: Service
    now: datetime
    body: bytes
    query: dict[str, str]
    arguments: dict[str, str]
    credential: Credential
    actor: Actor | None = None
    metrics: Metrics | None = None
    peer: str | None = None
    roles: Roles = EVERYTHING


@dataclass(frozen=True, slots=True)
class Route:
    """One row of a listener's table. ``duty``: what an operator must be allowed to do, where roles are declared.

    ``query``: the names that may stand behind the question mark of an operator's or auditor's request. One that is not
    known is refused, as is a body where none is wanted: what was meant by it would silently not happen.
    """

    method: str
    path: str
    who: Who
    handler: Callable[[Call], Response]
    max_body: int = field(default=0)
    duty: Duty | None = None
    query: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """What it takes. HEAD is for health checks alone: elsewhere it would release a key into nothing."""
        return ("GET", "HEAD") if self.path in HEALTH else (self.method,)
