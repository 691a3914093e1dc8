"""``attest.toml``: where a service listens, which files it uses. Decoded strictly, all problems at once.

Paths are relative to the file's own folder. Nothing here decides whom to trust: that is the policy's part.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from attest.collateral.intel_wanted import Channel
from attest.collateral.limits import Tls
from attest.collateral.pcs_settings import PcsSettings
from attest.collateral.url import KDS_URL, base_url
from attest.settings_dashboard import DashboardSettings, dashboard_of
from attest.settings_oidc import OidcSettings, TrusteeAdminSettings, oidc_of, trustee_admin_of
from attest.settings_parts import Address
from attest.settings_parts import address_of as _address
from attest.settings_parts import path_of as _path
from policy.errors import ConfigInvalid
from policy.table import Problems, Table
from policy.toml import TomlInvalid, strict_toml

ORIGIN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._:/-]{0,127}")
"""An audit log's name: a URL without its scheme."""
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
"""systemd names the folder of a unit's credentials in this variable (systemd.exec(5)); it holds no secret itself."""


class SettingsInvalid(ConfigInvalid):
    """``attest.toml`` has problems; ``problems`` lists all of them."""

    code = "settings.invalid"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Listeners, and the files of their TLS identities. Each of the guests' ``workers`` has so many ``threads``.

    Who has a certificate of ``auditor_ca`` may read on the operators' listener; ``None``: nobody but operators. With
    ``oidc`` bearer tokens of that provider do what certificates do, with ``trustee_admin`` those that Trustee's own
    client signs do what operators' do.
    """

    listen: Address
    admin_listen: Address
    certificate: Path
    key: Path
    operator_ca: Path
    workers: int
    threads: int = 4
    auditor_ca: Path | None = None
    oidc: OidcSettings | None = None
    trustee_admin: TrusteeAdminSettings | None = None


@dataclass(frozen=True, slots=True)
class CollateralSettings:
    """Where certificates and CRLs come from beside the evidence; an empty value asks nobody.

    ``folder`` is filled by people, ``cache`` by the program. ``max_crl_age`` bounds how long ago a list was last
    fetched, where its own next update is too far away for the operator's taste. ``pcs`` is how Intel is asked.
    ``renew``: a process of the service keeps the cache current, and requests ask only for what is missing or ended.
    """

    folder: Path | None = None
    cache: Path | None = None
    online: bool = False
    kds_url: str = KDS_URL
    max_crl_age: timedelta | None = None
    pcs: PcsSettings = field(default_factory=PcsSettings)
    renew: bool = False


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """The audit log's name and key, and the file outside the database that remembers what was signed last.

    ``witnesses`` are (URL, public key text) of those who are asked to cosign its checkpoints. ``checkpoint_every``: how
    often the service signs one by itself; nothing: never.
    """

    origin: str
    key_file: Path
    seen_file: Path
    witnesses: tuple[tuple[str, str], ...] = ()
    checkpoint_every: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Visits a minute of one address and one chip, statements of one host (0: no limit), and connections that may wait
    for a worker.
    """

    address_per_minute: int = 0
    chip_per_minute: int = 0
    queue: int = 32
    host_per_minute: int = 0


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
    operator_ca: Path
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
    server, store, table = (_table(root, name) for name in ("server", "store", "dashboard"))
    own, oidc = dashboard_of(table, folder), server.table("oidc", required=False)
    table.finish()
    wanted = _provider_for(own, oidc, table)
    collateral = root.table("collateral", required=False)
    role = DashboardRole(
        own=own,
        operator_ca=_path(server, "operator_ca", folder),
        database=own.database or _store(store, folder),
        collateral=CollateralSettings() if collateral is None else _collateral(collateral, folder),
        oidc=oidc_of(oidc, folder) if wanted and oidc is not None else None,
    )
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
    server, store, keys = (_table(root, name) for name in ("server", "store", "keys"))
    policy = _table(root, "policy")
    collateral, token, session = (root.table(name, required=False) for name in ("collateral", "token", "session"))
    audit, limits, dashboard = (root.table(name, required=False) for name in ("audit", "limits", "dashboard"))
    settings = Settings(
        server=_server(server, folder),
        database=_store(store, folder),
        master_key_file=_master_key(keys, folder),
        token_key_file=_token_keys(keys, folder),
        answer_key_file=_path(keys, "answer_key_file", folder) if keys.has("answer_key_file") else None,
        vault_file=_path(keys, "vault", folder) if keys.has("vault") else None,
        policy=_policy(policy, folder),
        collateral=CollateralSettings() if collateral is None else _collateral(collateral, folder),
        audit=None if audit is None else _audit(audit, folder),
        issuer=_text(token, "issuer", "attest"),
        audience=_text(token, "audience", "kbs"),
        token_dialect=_dialect(token),
        token_key_life=_key_life(token),
        token_lifetime=timedelta(seconds=_number(token, "lifetime_seconds", 300, 30, 86400)),
        limits=LimitSettings() if limits is None else _limits(limits),
        dashboard=None if dashboard is None else dashboard_of(dashboard, folder),
        challenge_lifetime=timedelta(seconds=_number(session, "challenge_seconds", 120, 10, 3600)),
    )
    if dashboard is not None and settings.dashboard is not None:
        _provider_for(settings.dashboard, settings.server.oidc, dashboard)
    for table in (server, store, keys, policy, collateral, audit, token, session, limits, dashboard, root):
        if table is not None:
            table.finish()
    return settings


def _provider_for(own: DashboardSettings, oidc: object, table: Table) -> bool:
    """Whether the pages need the provider of ``[server.oidc]``; it is a problem where there is none."""
    wanted = own.oidc or own.login is not None
    if wanted and oidc is None:
        table.problem("oidc" if own.oidc else "login", "there is no [server.oidc] to say whose people come in")
    return wanted


def _server(table: Table, folder: Path) -> ServerSettings:
    oidc, admin = table.table("oidc", required=False), table.table("trustee_admin", required=False)
    return ServerSettings(
        listen=_address(table, "listen"),
        admin_listen=_address(table, "admin_listen"),
        certificate=_path(table, "certificate", folder),
        key=_path(table, "key", folder),
        operator_ca=_path(table, "operator_ca", folder),
        workers=_number(table, "workers", 2, 1, 256),
        threads=_number(table, "threads", 4, 1, 64),
        auditor_ca=_path(table, "auditor_ca", folder) if table.has("auditor_ca") else None,
        oidc=None if oidc is None else oidc_of(oidc, folder),
        trustee_admin=None if admin is None else trustee_admin_of(admin, folder),
    )


def _policy(table: Table, folder: Path) -> PolicySettings:
    signers = tuple(folder / name for name in table.strings("signers", ()))
    signatures = _number(table, "signatures", 1, 1, 16)
    if signatures > max(1, len(signers)):
        table.problem("signatures", f"got {signatures}, but there are {len(signers)} signers")
    return PolicySettings(_path(table, "file", folder), signers, signatures)


def _collateral(table: Table, folder: Path) -> CollateralSettings:
    online = bool(table.value("online", bool, False))
    cache = _path(table, "cache", folder) if table.has("cache") else None
    if online and cache is None:
        table.problem("cache", "missing, want a path: what is fetched is kept there")
    renew = bool(table.value("renew", bool, online))
    if renew and not online:
        table.problem("renew", "true, but online is false: there is nobody to ask")
    hours = _number(table, "max_crl_age_hours", 1, 1, 24 * 366) if table.has("max_crl_age_hours") else None
    return CollateralSettings(
        folder=_path(table, "folder", folder) if table.has("folder") else None,
        cache=cache,
        online=online,
        kds_url=_url(table, "kds_url", KDS_URL),
        max_crl_age=None if hours is None else timedelta(hours=hours),
        pcs=_pcs(table, folder),
        renew=renew,
    )


def _pcs(table: Table, folder: Path) -> PcsSettings:
    default = PcsSettings()
    texts = table.strings("intel_urls", default.urls)
    urls = []
    for text in texts:
        try:
            urls.append(base_url(text))
        except ValueError as exc:
            table.problem("intel_urls", str(exc))
    if not texts:
        table.problem("intel_urls", "want at least one; online = false asks nobody")
    channel = default.channel
    try:
        channel = Channel.parse(_text(table, "intel_channel", channel.name))
    except ValueError as exc:
        table.problem("intel_channel", str(exc))
    return PcsSettings(
        urls=tuple(urls),
        root_crl_url=_url(table, "intel_root_crl_url", default.root_crl_url),
        channel=channel,
        tls=Tls(ca=_path(table, "intel_ca", folder)) if table.has("intel_ca") else default.tls,
    )


def _audit(table: Table, folder: Path) -> AuditSettings:
    origin = table.value("origin", str) or ""
    if origin and not ORIGIN.fullmatch(origin):
        table.problem("origin", f'got "{origin[:60]}", want a name such as kbs.example/audit')
    witnesses = table.tables("witness") if table.has("witness") else ()
    return AuditSettings(
        origin,
        _path(table, "log_key_file", folder),
        _path(table, "seen_file", folder),
        tuple(_witness(entry) for entry in witnesses),
        timedelta(seconds=_number(table, "checkpoint_seconds", 300, 0, 86400)),
    )


def _witness(table: Table) -> tuple[str, str]:
    found = _url(table, "url", ""), table.value("key", str) or ""
    table.finish()
    return found


def _url(table: Table, key: str, default: str) -> str:
    text = table.value(key, str, default) or default
    try:
        return base_url(text)
    except ValueError as exc:
        table.problem(key, str(exc))
        return default


def _table(root: Table, key: str) -> Table:
    """A required table; a missing one is a single problem, and its own keys are not reported as missing too."""
    found = root.table(key)
    return Table({}, Problems(), f"$.{key}") if found is None else found


def _store(table: Table, folder: Path) -> Path | str:
    if not table.has("url"):
        return _path(table, "path", folder)
    if table.has("path"):
        table.problem("url", "want either this or path, not both")
    url = table.value("url", str) or ""
    if not url.startswith("postgresql://"):
        table.problem("url", "want postgresql://user@host/name")
    return url


def _master_key(table: Table, folder: Path) -> Path:
    if not table.has("master_key_credential"):
        return _path(table, "master_key_file", folder)
    name = table.value("master_key_credential", str) or ""
    directory = os.environ.get(CREDENTIALS_DIRECTORY)
    if table.has("master_key_file"):
        table.problem("master_key_credential", "want either this or master_key_file, not both")
    if directory is None:
        table.problem("master_key_credential", "systemd gave no credentials: LoadCredential= is missing in the unit")
    if not name or "/" in name:
        table.problem("master_key_credential", f'got "{name[:40]}", want the name of a credential')
    return Path(directory or "") / name


def _token_keys(table: Table, folder: Path) -> Path | None:
    if not table.has("token_keys"):
        return _path(table, "token_key_file", folder)
    if table.has("token_key_file"):
        table.problem("token_keys", "want either this or token_key_file, not both")
    table.choice("token_keys", ("database",), "database")
    return None


def _limits(table: Table) -> LimitSettings:
    return LimitSettings(
        _number(table, "address_per_minute", 0, 0, 10**6),
        _number(table, "chip_per_minute", 0, 0, 10**6),
        _number(table, "queue", 32, 1, 100),
        _number(table, "host_per_minute", 0, 0, 10**6),
    )


def _dialect(table: Table | None) -> str:
    return "trustee" if table is None else table.choice("dialect", ("trustee", "ear"), "trustee") or "trustee"


def _key_life(table: Table | None) -> timedelta | None:
    days = _number(table, "key_days", 365, 0, 3650)
    return timedelta(days=days) if days else None


def _text(table: Table | None, key: str, default: str) -> str:
    return default if table is None else table.value(key, str, default) or default


def _number(table: Table | None, key: str, default: int, least: int, most: int) -> int:
    value = None if table is None else table.value(key, int, default)
    if table is not None and value is not None and not least <= value <= most:
        table.problem(key, f"got {value}, want {least}..{most}")
    return default if value is None else value
