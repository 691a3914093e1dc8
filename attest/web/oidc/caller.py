"""From a bearer token to an operator or auditor: the claim that names the role, the claim that names the person.

There is no default role. Whoever acts has one name, whichever way they come: ``[[server.oidc.person]]`` gives the name
on somebody's client certificate to their token, so that one person's two ways of logging in are one approval.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from attest.audit.record import Actor
from attest.settings_oidc import OidcSettings, TrusteeAdminSettings
from attest.web.authorities import AUDITOR, OPERATOR
from attest.web.oidc.admin_key import AdminKey
from attest.web.oidc.errors import BearerRefused
from attest.web.oidc.provider import Provider
from attest.web.oidc.token import Bearer, KeyOf, parts, verify
from attest.web.principals import TokenActor

MAX_NAME = 200


def token_actor(oidc: OidcSettings | None, admin: TrusteeAdminSettings | None) -> TokenActor | None:
    """Who a bearer token makes of somebody; ``None`` where the settings let none in.

    The provider's tokens name a key (``kid``), those of the administration key do not. Raises KeyFileRefused.
    """
    bearers, key = (None if oidc is None else Bearers.of(oidc)), (None if admin is None else AdminKey.of(admin))
    if bearers is None or key is None:
        return bearers.actor if bearers is not None else None if key is None else key.actor

    def actor(text: str, now: datetime) -> Actor | None:
        return bearers.actor(text, now) if "kid" in parts(text)[0] else key.actor(text, now)

    return actor


@dataclass(frozen=True, slots=True)
class Bearers:
    """Who the tokens of one provider make of somebody."""

    settings: OidcSettings
    key_of: KeyOf

    @classmethod
    def of(cls, settings: OidcSettings) -> Bearers:
        """With the provider asked over the network. One per process, made after the fork."""
        return cls(settings, Provider(settings).key)

    def actor(self, text: str, now: datetime) -> Actor | None:
        """Who shows the token; ``None`` for somebody with neither role. Raises BearerRefused, ProviderUnavailable."""
        bearer = verify(text, self.settings, self.key_of, now)
        groups = self._groups(bearer.claims)
        role = self._role(groups)
        if role is None:
            return None
        return Actor(role, self._name(bearer), issuer=bearer.issuer, subject=bearer.subject, groups=groups)

    def _groups(self, claims: dict[str, Any]) -> tuple[str, ...]:
        found: object = claims
        for member in self.settings.role:
            found = found.get(member) if isinstance(found, dict) else None
        values = [found] if isinstance(found, str) else found
        return tuple(value for value in values if isinstance(value, str)) if isinstance(values, list) else ()

    def _role(self, groups: tuple[str, ...]) -> str | None:
        if any(value in self.settings.operator for value in groups):
            return OPERATOR
        return AUDITOR if any(value in self.settings.auditor for value in groups) else None

    def _name(self, bearer: Bearer) -> str:
        claim = self.settings.name
        value = bearer.claims.get(claim)
        if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
            raise BearerRefused(f"bearer: {claim}: want a name of 1 to {MAX_NAME} characters", code="bearer.claims")
        if claim == "email" and bearer.claims.get("email_verified") is not True:
            raise BearerRefused("bearer: the provider has not verified the email address", code="bearer.claims")
        return self.settings.people.get(value, value)
