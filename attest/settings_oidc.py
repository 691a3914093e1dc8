"""``[server.oidc]`` of ``attest.toml``: whose bearer tokens make somebody an operator or auditor, by which claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from attest.settings_parts import number_of, path_of
from policy.table import Table

ALGORITHMS = ("ES256", "ES384", "EdDSA", "PS256", "RS256")
NAMES = ("sub", "email")
_LEEWAY_SECONDS, _MOST_LEEWAY = 30, 120


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """One OpenID provider. Tokens must name ``issuer`` and ``audience`` exactly, and ``client`` where it is set.

    ``role`` is the path of members to the claim that says what somebody may do: a string or a list of strings. Who has
    one of ``operator`` there is an operator, who has one of ``auditor`` an auditor, everybody else nobody. ``name`` is
    the claim that audit records and approvals call a person by; ``people`` gives its values other names, such as those
    of client certificates. ``ca`` is the provider's TLS authority (PEM), ``None`` for those of the system.
    """

    issuer: str
    audience: str
    role: tuple[str, ...]
    operator: tuple[str, ...] = ()
    auditor: tuple[str, ...] = ()
    name: str = "sub"
    people: Mapping[str, str] = field(default_factory=dict)
    client: str | None = None
    ca: Path | None = None
    algorithms: tuple[str, ...] = ALGORITHMS
    leeway: timedelta = timedelta(seconds=_LEEWAY_SECONDS)


@dataclass(frozen=True, slots=True)
class TrusteeAdminSettings:
    """``[server.trustee_admin]``: the public key (PEM, Ed25519) of Trustee's own client, and who its holders are."""

    key: Path
    name: str = "trustee-admin"


def trustee_admin_of(table: Table, folder: Path) -> TrusteeAdminSettings:
    """Decode the table; problems are its own."""
    name = _word(table, "name") if table.has("name") else "trustee-admin"
    found = TrusteeAdminSettings(path_of(table, "key", folder), name)
    table.finish()
    return found


def oidc_of(table: Table, folder: Path) -> OidcSettings:
    """Decode the table; problems are its own."""
    found = OidcSettings(
        issuer=_issuer(table),
        audience=_word(table, "audience"),
        role=_list(table, "role_claim"),
        operator=table.strings("operator", ()),
        auditor=table.strings("auditor", ()),
        name=table.choice("name_claim", NAMES, "sub") or "sub",
        people=_people(table),
        client=_word(table, "client") if table.has("client") else None,
        ca=path_of(table, "ca", folder) if table.has("ca") else None,
        algorithms=_algorithms(table),
        leeway=timedelta(seconds=number_of(table, "leeway_seconds", _LEEWAY_SECONDS, 0, _MOST_LEEWAY)),
    )
    if not found.operator and not found.auditor:
        table.problem("operator", "want values of the role claim here or under auditor: otherwise nobody is anything")
    if set(found.operator) & set(found.auditor):
        table.problem("auditor", "a value makes operators too, want different ones")
    table.finish()
    return found


def _issuer(table: Table) -> str:
    text = table.value("issuer", str, want="an https URL") or ""
    try:
        parts = urlsplit(text)
        good = parts.scheme == "https" and bool(parts.hostname) and not parts.query and not parts.fragment
    except ValueError:
        good = False
    if text and (not good or "@" in text or not text.isprintable() or " " in text):
        table.problem("issuer", f'got "{text[:200]}", want an https URL exactly as tokens name it')
    return text


def _word(table: Table, key: str) -> str:
    text = table.value(key, str)
    if text == "":
        table.problem(key, "got an empty string")
    return text or ""


def _list(table: Table, key: str) -> tuple[str, ...]:
    found = table.strings(key)
    if found and not all(found):
        table.problem(key, "holds an empty string")
    return found


def _algorithms(table: Table) -> tuple[str, ...]:
    found = table.strings("algorithms", ALGORITHMS)
    unknown = [name for name in found if name not in ALGORITHMS]
    if unknown or not found:
        table.problem("algorithms", f"got {unknown or 'none'}, want some of {', '.join(ALGORITHMS)}")
    return found


def _people(table: Table) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in table.tables("person"):
        claim, name = _word(entry, "claim"), _word(entry, "name")
        if claim in found:
            entry.problem("claim", f'"{claim[:60]}" is there twice, want one name for it')
        found[claim] = name
        entry.finish()
    return found
