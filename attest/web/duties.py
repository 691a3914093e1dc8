"""Which operator may do what, where the settings say that not everybody may do everything (``[[server.role]]``).

Without such a table every operator may do everything. With one, an operator may do what the roles that name them allow
together; who is named by none may only read, as auditors do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from attest.audit.record import Actor
from attest.errors import AttestError, Kind
from attest.settings_roles import LIMITED_BY, Duty, Role
from attest.web.authorities import OPERATOR

_RESOURCE = ("repository", "kind", "tag")


class DutyMissing(AttestError):
    """An operator who may not do this, or not to this; the message says what they may."""

    code = "duty.missing"
    kind: Kind = "guest"


@dataclass(frozen=True, slots=True)
class Roles:
    """The tables of the settings; none: every operator may do everything."""

    known: tuple[Role, ...] = ()

    def check(self, duty: Duty | None, actor: Actor | None, arguments: Mapping[str, str]) -> None:
        """Raise DutyMissing unless ``actor`` may do what ``duty`` stands for to what a path's ``arguments`` name."""
        if duty is None or not self.known or actor is None:
            return
        target, own = target_of(duty, arguments), tuple(self.of(actor))
        if not any(role.allows(duty, target) for role in own):
            on = "" if target is None else f" for {target}"
            raise DutyMissing(f'this takes the duty "{duty}"{on}: {actor.name} has {_shown(own)}')

    def of(self, actor: Actor) -> Iterator[Role]:
        """The roles that name somebody."""
        for role in self.known:
            if actor.name in role.members or set(actor.groups) & set(role.groups):
                yield role

    def json_of(self, actor: Actor) -> list[dict[str, Any]]:
        """What somebody may do beside reading, role by role."""
        if actor.kind != OPERATOR:
            return []
        if not self.known:
            return [{"role": None, "may": list(Duty)}]
        return [_role_json(role) for role in self.of(actor)]


EVERYTHING = Roles()
"""Without tables in the settings."""


def target_of(duty: Duty, arguments: Mapping[str, str]) -> str | None:
    """What a request is about, where its duty can be limited to some: a resource's path or a VM's name."""
    if duty in LIMITED_BY["resources"]:
        return "/".join(arguments[name] for name in _RESOURCE) if set(_RESOURCE) <= set(arguments) else None
    return arguments.get("name") if duty in LIMITED_BY["vms"] else None


def _shown(roles: tuple[Role, ...]) -> str:
    found = [f"{duty}{_limits(role.limits(duty))}" for role in roles for duty in role.duties]
    return ", ".join(dict.fromkeys(found)) or "none"


def _limits(patterns: tuple[str, ...]) -> str:
    return f" ({', '.join(patterns)})" if patterns else ""


def _role_json(role: Role) -> dict[str, Any]:
    limits = {"resources": list(role.resources), "vms": list(role.vms)}
    return {"role": role.name, "may": list(role.duties), **{name: found for name, found in limits.items() if found}}
