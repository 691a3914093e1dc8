"""The administration key of Trustee's own client: whoever holds it signs a token for each request, and is an operator.

``kbs-client config --auth-private-key FILE`` up to release 0.20 makes a JWT under Ed25519 with ``iat``, ``exp`` and
``nbf``, good for two hours, that names neither issuer, audience nor person. So everybody with the key is one operator,
called by the name in the settings, and a token that somebody catches counts until it ends. Off unless
``[server.trustee_admin]`` is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attest.audit.record import Actor
from attest.keys.statement import key_id, load_public
from attest.settings_oidc import TrusteeAdminSettings
from attest.web.authorities import OPERATOR
from attest.web.oidc.token import check_header, check_signature, check_times, parts
from attest.web.tls import TlsMisconfigured

ALGORITHM = "EdDSA"
ISSUER = "administration key"
LEEWAY = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class AdminKey:
    """The public half, and what records call its holders."""

    key: Ed25519PublicKey
    name: str

    @classmethod
    def of(cls, settings: TrusteeAdminSettings) -> AdminKey:
        """Raises KeyFileRefused, TlsMisconfigured."""
        key = load_public(settings.key)
        if not isinstance(key, Ed25519PublicKey):
            raise TlsMisconfigured(f"server.trustee_admin: {settings.key}: want an Ed25519 key")
        return cls(key, settings.name)

    def actor(self, text: str, now: datetime) -> Actor:
        """Who shows the token. Raises BearerRefused."""
        header, payload = parts(text)
        check_header(header, (ALGORITHM,))
        check_signature(text, self.key, ALGORITHM)
        check_times(payload, LEEWAY, now)
        return Actor(OPERATOR, self.name, issuer=ISSUER, subject=key_id(self.key))
