"""``attest.toml``: where a service listens, which files it uses. Decoded strictly, all problems at once.

Paths are relative to the file's own folder. Nothing here decides whom to trust: that is the policy's part.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from attest.keys.client_crl import ClientAuthority
from attest.settings_audit import AuditSettings, audit_of
from attest.settings_collateral import CollateralSettings, collateral_of
from attest.settings_dashboard import DashboardSettings, dashboard_of
from attest.settings_keys import master_key_of, token_keys_of
from attest.settings_oidc import OidcSettings, oidc_of
from attest.settings_parts import authority_of, number_of, path_of, required_table, text_of
from attest.settings_server import LimitSettings, ServerSettings, limits_of, server_of
from policy.errors import ConfigInvalid
from policy.table import Problems, Table
from policy.toml import TomlInvalid, strict_toml


class SettingsInvalid(ConfigInvalid):
    """``attest.toml`` has problems; ``problems`` lists all of them."""

    code = "settings.invalid"


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """The policy's file; public keys of those who sign policies and reference values, and how many of them must."""

    file: Path
    signers: tuple[Path, ...] = ()
    signatures: int = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole file. ``database`` is a file, or a PostgreSQL address; ``token_key_life`` when a signing key is due.
    Without ``token_key_file`` the keys that sign tokens are in the database.
    """

    server: ServerSettings
    database: Path | str
    master_key_file: Path
    token_key_file: Path | None
    answer_key_file: Path | None
    policy: PolicySettings
    collateral: CollateralSettings
    audit: AuditSettings | None
    issuer: str
    audience: str
    token_lifetime: timedelta
    token_dialect: str
    token_key_life: timedelta | None
    challenge_lifetime: timedelta
    limits: LimitSettings
    vault_file: Path | None = None
    dashboard: DashboardSettings | None = None


@dataclass(frozen=True, slots=True)
class DashboardRole:
    """What the process of the dashboard is started from; it has no path of a key but its own listener's."""

    own: DashboardSettings
    operators: ClientAuthority
    database: Path | str
    collateral: CollateralSettings
    oidc: OidcSettings | None = None


def load_settings(path: Path) -> Settings:
    """Read and decode. Raises SettingsInvalid."""
    problems = Problems()
    settings = _decode(Table(_read(path), problems), path.absolute().parent)
    if problems.found:
        raise SettingsInvalid(str(path), tuple(problems.found))
    return settings


def load_dashboard(path: Path) -> DashboardRole:
    """Only what the dashboard's process may know: nothing that names a key of the service is read. Raises
    SettingsInvalid.
    """
    problems, folder = Problems(), path.absolute().parent
    root = Table(_read(path), problems)
    server, store, table = (required_table(root, name) for name in ("server", "store", "dashboard"))
    own = dashboard_of(table, folder)
    table.finish()
    oidc = server.table("oidc", required=False) if own.oidc or own.login is not None else None
    collateral = root.table("collateral", required=False)
    role = DashboardRole(
        own=own,
        operators=authority_of(server, "operator", folder),
        database=own.database or _store(store, folder),
        collateral=CollateralSettings() if collateral is None else collateral_of(collateral, folder),
        oidc=None if oidc is None else oidc_of(oidc, folder),
    )
    _check_provider(own, role.oidc, table)
    if problems.found:
        raise SettingsInvalid(str(path), tuple(problems.found))
    return role


def _read(path: Path) -> dict[str, object]:
    try:
        return strict_toml(path.read_bytes())
    except OSError as exc:
        raise SettingsInvalid(str(path), (f"$: cannot be read: {exc.strerror}",)) from None
    except TomlInvalid as exc:
        raise SettingsInvalid(str(path), (f"$: {exc.message}",)) from None


def _decode(root: Table, folder: Path) -> Settings:
    if root.value("schema", int) not in (None, 1):
        root.problem("schema", "want 1")
    server, store, keys = (required_table(root, name) for name in ("server", "store", "keys"))
    policy = required_table(root, "policy")
    collateral, token, session = (root.table(name, required=False) for name in ("collateral", "token", "session"))
    audit, limits, dashboard = (root.table(name, required=False) for name in ("audit", "limits", "dashboard"))
    settings = Settings(
        server=server_of(server, folder),
        database=_store(store, folder),
        master_key_file=master_key_of(keys, folder),
        token_key_file=token_keys_of(keys, folder),
        answer_key_file=path_of(keys, "answer_key_file", folder) if keys.has("answer_key_file") else None,
        vault_file=path_of(keys, "vault", folder) if keys.has("vault") else None,
        policy=_policy(policy, folder),
        collateral=CollateralSettings() if collateral is None else collateral_of(collateral, folder),
        audit=None if audit is None else audit_of(audit, folder),
        issuer=text_of(token, "issuer", "attest"),
        audience=text_of(token, "audience", "kbs"),
        token_dialect=_dialect(token),
        token_key_life=_key_life(token),
        token_lifetime=timedelta(seconds=number_of(token, "lifetime_seconds", 300, 30, 86400)),
        limits=LimitSettings() if limits is None else limits_of(limits),
        dashboard=None if dashboard is None else dashboard_of(dashboard, folder),
        challenge_lifetime=timedelta(seconds=number_of(session, "challenge_seconds", 120, 10, 3600)),
    )
    if dashboard is not None and settings.dashboard is not None:
        _check_provider(settings.dashboard, settings.server.oidc, dashboard)
    for table in (server, store, keys, policy, collateral, audit, token, session, limits, dashboard, root):
        if table is not None:
            table.finish()
    return settings


def _check_provider(own: DashboardSettings, oidc: OidcSettings | None, table: Table) -> None:
    """Problems of the pages with the provider of ``[server.oidc]``: there is none, or its tokens for them open more."""
    if oidc is None:
        if own.oidc or own.login is not None:
            table.problem("oidc" if own.oidc else "login", "there is no [server.oidc] to say whose people come in")
    elif own.login is not None and own.login.client == oidc.audience:
        # The pages' process sees each ID token, which is made for its client.
        text = "is [server.oidc] audience too, so tokens of these logins would open the operators' listener: want two"
        table.problem("login.client", text)


def _policy(table: Table, folder: Path) -> PolicySettings:
    signers = tuple(folder / name for name in table.strings("signers", ()))
    signatures = number_of(table, "signatures", 1, 1, 16)
    if signatures > max(1, len(signers)):
        table.problem("signatures", f"got {signatures}, but there are {len(signers)} signers")
    return PolicySettings(path_of(table, "file", folder), signers, signatures)


def _store(table: Table, folder: Path) -> Path | str:
    if not table.has("url"):
        return path_of(table, "path", folder)
    if table.has("path"):
        table.problem("url", "want either this or path, not both")
    url = table.value("url", str) or ""
    if not url.startswith("postgresql://"):
        table.problem("url", "want postgresql://user@host/name")
    return url


def _dialect(table: Table | None) -> str:
    return "trustee" if table is None else table.choice("dialect", ("trustee", "ear"), "trustee") or "trustee"


def _key_life(table: Table | None) -> timedelta | None:
    days = number_of(table, "key_days", 365, 0, 3650)
    return timedelta(days=days) if days else None
