"""``[[server.role]]`` of ``attest.toml``: what single operators may do, where not all of them may do everything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from policy.table import Table


class Duty(StrEnum):
    """Kinds of what operators do; each changing route takes one."""

    KEYS = "keys"
    APPROVAL = "approval"
    BREAK_GLASS = "break-glass"
    EXPORT = "export"
    POLICY = "policy"
    REFERENCE = "reference"
    COLLATERAL = "collateral"
    TOKENS = "tokens"
    HOSTS = "hosts"
    VMS = "vms"


LIMITED_BY: Mapping[str, tuple[Duty, ...]] = {
    "resources": (Duty.KEYS, Duty.APPROVAL, Duty.BREAK_GLASS, Duty.EXPORT),
    "vms": (Duty.VMS,),
}
"""Duties that are about one thing each, by the key of the patterns that say which."""
_RESOURCES = re.compile(r"[A-Za-z0-9_.-]*\*?(/[A-Za-z0-9_.-]*\*?){2}")
_VMS = re.compile(r"[^*/\s]*\*?")


@dataclass(frozen=True, slots=True)
class Role:
    """``members`` by the names that records call them; ``groups`` are values of the role claim of bearer tokens.

    ``resources`` and ``vms`` are patterns, see :func:`fits`; empty: all.
    """

    name: str
    duties: tuple[Duty, ...]
    members: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    vms: tuple[str, ...] = ()

    def limits(self, duty: Duty) -> tuple[str, ...]:
        """The patterns for a duty; empty: it is not limited."""
        if duty in LIMITED_BY["resources"]:
            return self.resources
        return self.vms if duty in LIMITED_BY["vms"] else ()

    def allows(self, duty: Duty, target: str | None) -> bool:
        """Whether it has the duty for ``target``; ``None`` is everything at once, or nothing in particular."""
        limits = self.limits(duty)
        if duty not in self.duties:
            return False
        return not limits or (target is not None and any(fits(pattern, target) for pattern in limits))


def fits(pattern: str, text: str) -> bool:
    """Whether every segment of ``text`` is that of ``pattern``, or begins with it where that ends in ``*``."""
    wanted, found = pattern.split("/"), text.split("/")
    return len(wanted) == len(found) and all(
        have.startswith(want[:-1]) if want.endswith("*") else have == want
        for want, have in zip(wanted, found, strict=True)
    )


def roles_of(table: Table, groups: tuple[str, ...] | None) -> tuple[Role, ...]:
    """Decode ``[[role]]`` of ``[server]``; problems are its own. ``groups``: values that make an operator, ``None``
    where no provider's tokens are taken.
    """
    found: dict[str, Role] = {}
    for entry in table.tables("role") if table.has("role") else ():
        role = _role(entry, groups)
        if role.name in found:
            entry.problem("name", f'"{role.name[:60]}" is there twice')
        found[role.name] = role
        entry.finish()
    return tuple(found.values())


def _role(table: Table, groups: tuple[str, ...] | None) -> Role:
    role = Role(
        table.value("name", str) or "",
        _duties(table),
        table.strings("members", ()),
        table.strings("groups", ()),
        _patterns(table, "resources", _RESOURCES, "REPOSITORY/KIND/TAG"),
        _patterns(table, "vms", _VMS, "NAME"),
    )
    if not (role.members or role.groups):
        table.problem("members", "want names here or values under groups: otherwise nobody has it")
    strange = [value for value in role.groups if groups is None or value not in groups]
    if strange:
        table.problem("groups", f'"{strange[0][:60]}" makes nobody an operator, see [server.oidc] operator')
    for key, duties in LIMITED_BY.items():
        if table.has(key) and not set(duties) & set(role.duties):
            table.problem(key, f"means nothing without one of {', '.join(duties)} under may")
    return role


def _duties(table: Table) -> tuple[Duty, ...]:
    names = table.strings("may")
    unknown = [name for name in names if name not in tuple(Duty)]
    if unknown or not names:
        table.problem("may", f"got {unknown[0][:60] if unknown else 'none'}, want some of {', '.join(Duty)}")
    return tuple(Duty(name) for name in names if name not in unknown)


def _patterns(table: Table, key: str, form: re.Pattern[str], want: str) -> tuple[str, ...]:
    found = table.strings(key, ())
    bad = [text for text in found if not text or not form.fullmatch(text)]
    if bad or (table.has(key) and not found):
        got = f'"{bad[0][:60]}"' if bad else "none"
        table.problem(key, f"got {got}, want {want}, each part may end in *; left out: all")
    return found
