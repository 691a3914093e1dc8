"""Files whose end is watched: certificates of the listeners and their authorities, and the keys that sign tokens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from attest.settings import Settings


@dataclass(frozen=True, slots=True)
class Watched:
    """``certificates`` by what they are for; ``key_life``: a token key is due so long after it began to sign. Without
    ``token_keys`` such keys are looked for in the database.
    """

    certificates: tuple[tuple[str, Path], ...] = ()
    token_keys: Path | None = None
    key_life: timedelta | None = None

    @classmethod
    def of(cls, settings: Settings) -> Watched:
        """As ``attest.toml`` says."""
        server, dashboard, intel_ca = settings.server, settings.dashboard, settings.collateral.pcs.tls.ca
        named: list[tuple[str, Path | None]] = [
            ("server", server.certificate),
            ("operator authority", server.operator_ca),
            ("auditor authority", server.auditor_ca),
            ("authority of Intel's cache", intel_ca),
            ("authority of the OpenID provider", None if server.oidc is None else server.oidc.ca),
        ]
        if dashboard is not None:
            named += [("dashboard", dashboard.certificate), ("auditor authority", dashboard.auditor_ca)]
        found = dict.fromkeys((name, path) for name, path in named if path is not None)
        return cls(tuple(found), settings.token_key_file, settings.token_key_life)
