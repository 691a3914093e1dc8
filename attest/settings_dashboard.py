"""``[dashboard]`` of ``attest.toml``: where the auditors' pages are served, to whom, from which database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from attest.keys.client_crl import ClientAuthority
from attest.settings_parts import (
    Address,
    address_of,
    check_max_age,
    path_of,
    perhaps_authority_of,
)
from policy.table import Table

_MOST_MINUTES = 480


@dataclass(frozen=True, slots=True)
class LoginSettings:
    """``[dashboard.login]``: people log in with a browser at the provider of ``[server.oidc]``.

    ``client`` is what the pages are called there, ``secret`` the file of its secret where it has one, ``origin`` where
    browsers reach the pages, ``https://HOST[:PORT]``; the provider must know ``ORIGIN/login/callback`` as address of
    return. A session lasts ``life``, used or not.
    """

    client: str
    origin: str
    secret: Path | None = None
    scope: str = "openid"
    life: timedelta = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class DashboardSettings:
    """``certificate`` and ``key`` are the listener's own; ``None`` with ``plain``, which serves HTTP without a log-in
    and is refused for any address but a loopback one.

    Clients show a certificate of the operators' authority or of ``auditors``, or, with ``oidc``, a bearer token as
    ``[server.oidc]`` takes them; with ``plain`` they must then show one: a proxy that logs people in adds it.
    ``database`` is an address with fewer rights than the service's, ``None`` for the service's own, opened for reading
    only.
    """

    listen: Address
    certificate: Path | None = None
    key: Path | None = None
    auditors: ClientAuthority | None = None
    plain: bool = False
    database: str | None = None
    oidc: bool = False
    login: LoginSettings | None = None


def dashboard_of(table: Table, folder: Path) -> DashboardSettings:
    """Decode the table; problems are its own."""
    listen, plain = address_of(table, "listen"), bool(table.value("plain", bool, False))
    if plain and not listen.loopback:
        table.problem("plain", f"got true with {listen}, want a loopback address: anybody who reaches it reads the log")
    login = table.table("login", required=False)
    if plain and login is not None:
        table.problem("login", "means nothing with plain = true: its cookies go over TLS only")
    identity = {name: None if plain else path_of(table, name, folder) for name in ("certificate", "key")}
    for name in ("certificate", "key", "auditor_ca", "auditor_crl"):
        if plain and table.has(name):
            table.problem(name, "means nothing with plain = true")
    found = DashboardSettings(
        listen=listen,
        certificate=identity["certificate"],
        key=identity["key"],
        auditors=None if plain else perhaps_authority_of(table, "auditor", folder),
        plain=plain,
        database=_database(table),
        oidc=bool(table.value("oidc", bool, False)),
        login=None if login is None else _login(login, folder),
    )
    check_max_age(table, found.auditors)
    return found


def _login(table: Table, folder: Path) -> LoginSettings:
    minutes = table.value("session_minutes", int, 30)
    if minutes is None or not 1 <= minutes <= _MOST_MINUTES:
        table.problem("session_minutes", f"got {minutes}, want 1..{_MOST_MINUTES}")
    found = LoginSettings(
        client=table.value("client", str, want="the name the provider knows the pages by") or "",
        origin=_origin(table),
        secret=path_of(table, "secret_file", folder) if table.has("secret_file") else None,
        scope=" ".join(dict.fromkeys(("openid", *table.strings("scope", ())))),
        life=timedelta(minutes=minutes or 30),
    )
    table.finish()
    return found


def _origin(table: Table) -> str:
    text = table.value("origin", str, want="https://HOST[:PORT]") or ""
    try:
        parts = urlsplit(text)
        good = text == f"https://{parts.netloc}" == text.lower() and bool(parts.hostname) and parts.port != 443
    except ValueError:
        good = False
    if text and (not good or "@" in text or not text.isprintable() or not text.isascii()):
        table.problem("origin", f'got "{text[:120]}", want https://HOST[:PORT] in lower case, as browsers name it')
    return text


def _database(table: Table) -> str | None:
    if not table.has("database"):
        return None
    address = table.value("database", str) or ""
    if not address.startswith("postgresql://"):
        table.problem("database", "want postgresql://user@host/name, of a role that can only read")
    return address
