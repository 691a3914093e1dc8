"""Files whose end is watched: certificates of the listeners, their authorities, the lists of what these took back, and
the keys that sign tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from attest.keys.client_crl import ClientAuthority
from attest.settings import Settings


@dataclass(frozen=True, slots=True)
class Watched:
    """``certificates`` by what they are for, ``authorities`` with revocation lists by whose they are. ``key_life``: a
    token key is due so long after it began to sign. Without ``token_keys`` such keys are looked for in the database.
    """

    certificates: tuple[tuple[str, Path], ...] = ()
    token_keys: Path | None = None
    key_life: timedelta | None = None
    authorities: tuple[tuple[str, ClientAuthority], ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Watched:
        """As ``attest.toml`` says."""
        server, dashboard, intel_ca = settings.server, settings.dashboard, settings.collateral.pcs.tls.ca
        clients = [("operator", server.operators), ("auditor", server.auditors)]
        if dashboard is not None:
            clients.append(("auditor", dashboard.auditors))
        listed = dict.fromkeys((who, one) for who, one in clients if one is not None and one.crl is not None)
        named: list[tuple[str, Path | None]] = [
            ("server", server.certificate),
            *((f"{who} authority", one.ca) for who, one in clients if one is not None),
            ("authority of Intel's cache", intel_ca),
            ("authority of the OpenID provider", None if server.oidc is None else server.oidc.ca),
        ]
        if dashboard is not None:
            named.append(("dashboard", dashboard.certificate))
        found = dict.fromkeys((name, path) for name, path in named if path is not None)
        return cls(tuple(found), settings.token_key_file, settings.token_key_life, tuple(listed))
