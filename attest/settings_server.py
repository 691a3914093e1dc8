"""``[server]`` and ``[limits]`` of ``attest.toml``: where a service listens, for whom, and how much it takes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attest.keys.client_crl import ClientAuthority
from attest.settings_oidc import OidcSettings, TrusteeAdminSettings, oidc_of, trustee_admin_of
from attest.settings_parts import (
    Address,
    address_of,
    authority_of,
    check_max_age,
    number_of,
    path_of,
    perhaps_authority_of,
)
from attest.settings_roles import Role, roles_of
from policy.table import Table


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Listeners, and the files of their TLS identities. Each of the guests' ``workers`` has so many ``threads``.

    Who has a certificate of ``auditors`` may read on the operators' listener; ``None``: nobody but operators. With
    ``oidc`` bearer tokens of that provider do what certificates do, with ``trustee_admin`` those that Trustee's own
    client signs do what operators' do. With ``roles`` operators may only do what these allow.
    """

    listen: Address
    admin_listen: Address
    certificate: Path
    key: Path
    operators: ClientAuthority
    workers: int
    threads: int = 4
    auditors: ClientAuthority | None = None
    oidc: OidcSettings | None = None
    trustee_admin: TrusteeAdminSettings | None = None
    roles: tuple[Role, ...] = ()


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Visits a minute of one address and one chip, statements of one host (0: no limit), and connections that may wait
    for a worker.
    """

    address_per_minute: int = 0
    chip_per_minute: int = 0
    queue: int = 32
    host_per_minute: int = 0


def server_of(table: Table, folder: Path) -> ServerSettings:
    """Decode ``[server]``."""
    oidc, admin = table.table("oidc", required=False), table.table("trustee_admin", required=False)
    provider = None if oidc is None else oidc_of(oidc, folder)
    found = ServerSettings(
        listen=address_of(table, "listen"),
        admin_listen=address_of(table, "admin_listen"),
        certificate=path_of(table, "certificate", folder),
        key=path_of(table, "key", folder),
        operators=authority_of(table, "operator", folder),
        workers=number_of(table, "workers", 2, 1, 256),
        threads=number_of(table, "threads", 4, 1, 64),
        auditors=perhaps_authority_of(table, "auditor", folder),
        oidc=provider,
        trustee_admin=None if admin is None else trustee_admin_of(admin, folder),
        roles=roles_of(table, None if provider is None else provider.operator),
    )
    check_max_age(table, found.operators, found.auditors)
    return found


def limits_of(table: Table) -> LimitSettings:
    """Decode ``[limits]``."""
    return LimitSettings(
        number_of(table, "address_per_minute", 0, 0, 10**6),
        number_of(table, "chip_per_minute", 0, 0, 10**6),
        number_of(table, "queue", 32, 1, 100),
        number_of(table, "host_per_minute", 0, 0, 10**6),
    )
