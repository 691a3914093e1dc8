"""How long an exchange may take and whom TLS trusts. Apart from the transport: who asks nobody loads no HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to connect, and to wait for the next bytes."""

    connect: float = 5.0
    read: float = 5.0


@dataclass(frozen=True, slots=True)
class Tls:
    """How an ``https`` server is authenticated: by the system's authorities, or only by those in the PEM file ``ca``.

    ``verify=False`` accepts any certificate. Answers are signed, so nobody can forge one; whoever stands in between
    can see what is asked for, and can withhold or delay.
    """

    verify: bool = True
    ca: Path | None = None
