"""``[dashboard]`` of ``attest.toml``: where the auditors' pages are served, to whom, from which database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attest.settings_parts import Address, address_of, path_of
from policy.table import Table


@dataclass(frozen=True, slots=True)
class DashboardSettings:
    """``certificate`` and ``key`` are the listener's own; ``None`` with ``plain``, which serves HTTP without a log-in
    and is refused for any address but a loopback one.

    Clients show a certificate of the operators' authority or of ``auditor_ca``, or, with ``oidc``, a bearer token as
    ``[server.oidc]`` takes them; with ``plain`` they must then show one: a proxy that logs people in adds it.
    ``database`` is an address with fewer rights than the service's, ``None`` for the service's own, opened for reading
    only.
    """

    listen: Address
    certificate: Path | None = None
    key: Path | None = None
    auditor_ca: Path | None = None
    plain: bool = False
    database: str | None = None
    oidc: bool = False


def dashboard_of(table: Table, folder: Path) -> DashboardSettings:
    """Decode the table; problems are its own."""
    listen, plain = address_of(table, "listen"), bool(table.value("plain", bool, False))
    if plain and not listen.loopback:
        table.problem("plain", f"got true with {listen}, want a loopback address: anybody who reaches it reads the log")
    identity = {name: None if plain else path_of(table, name, folder) for name in ("certificate", "key")}
    for name in ("certificate", "key", "auditor_ca"):
        if plain and table.has(name):
            table.problem(name, "means nothing with plain = true")
    return DashboardSettings(
        listen=listen,
        certificate=identity["certificate"],
        key=identity["key"],
        auditor_ca=path_of(table, "auditor_ca", folder) if not plain and table.has("auditor_ca") else None,
        plain=plain,
        database=_database(table),
        oidc=bool(table.value("oidc", bool, False)),
    )


def _database(table: Table) -> str | None:
    if not table.has("database"):
        return None
    address = table.value("database", str) or ""
    if not address.startswith("postgresql://"):
        table.problem("database", "want postgresql://user@host/name, of a role that can only read")
    return address
