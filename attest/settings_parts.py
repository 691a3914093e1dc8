"""What the parts of ``attest.toml`` are made of: addresses, bounded numbers, paths relative to the file."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from attest.collateral.url import base_url
from attest.keys.client_crl import ClientAuthority
from policy.table import Problems, Table

_MAX_AGE = "crl_max_age_hours"


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address to listen on; port 0 asks the kernel for one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it. A name is not: what it resolves to is decided elsewhere."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def path_of(table: Table, key: str, folder: Path) -> Path:
    """A required path."""
    return folder / (table.value(key, str, want="a path") or "")


def authority_of(table: Table, who: str, folder: Path) -> ClientAuthority:
    """``<who>_ca``, required, and what goes with it: ``<who>_crl``, ``crl_max_age_hours``."""
    crl = path_of(table, f"{who}_crl", folder) if table.has(f"{who}_crl") else None
    hours = number_of(table, _MAX_AGE, 1, 1, 24 * 366) if table.has(_MAX_AGE) else None
    age = None if hours is None or crl is None else timedelta(hours=hours)
    return ClientAuthority(path_of(table, f"{who}_ca", folder), crl, age)


def perhaps_authority_of(table: Table, who: str, folder: Path) -> ClientAuthority | None:
    """The same where ``<who>_ca`` may be left out; lists without it are a problem."""
    if table.has(f"{who}_ca"):
        return authority_of(table, who, folder)
    if table.has(f"{who}_crl"):
        table.problem(f"{who}_crl", f"means nothing without {who}_ca")
    return None


def check_max_age(table: Table, *authorities: ClientAuthority | None) -> None:
    """A bound on the age of lists that are not asked for is a problem."""
    if table.has(_MAX_AGE) and not any(one is not None and one.crl is not None for one in authorities):
        table.problem(_MAX_AGE, "means nothing without a revocation list")


def address_of(table: Table, key: str) -> Address:
    """A required ``host:port``."""
    text = table.value(key, str, want='"host:port"') or ""
    host, _, port = text.rpartition(":")
    if text and not (host and port.isascii() and port.isdigit() and int(port) < 65536):
        table.problem(key, f'got "{text[:60]}", want "host:port"')
        return Address("", 0)
    return Address(host.strip("[]"), int(port or 0))


def text_of(table: Table | None, key: str, default: str) -> str:
    """A text; ``default`` where it, or the whole table, is left out."""
    return default if table is None else table.value(key, str, default) or default


def number_of(table: Table | None, key: str, default: int, least: int, most: int) -> int:
    """A whole number within bounds; ``default`` where it, or the whole table, is left out."""
    value = None if table is None else table.value(key, int, default)
    if table is not None and value is not None and not least <= value <= most:
        table.problem(key, f"got {value}, want {least}..{most}")
    return default if value is None else value


def url_of(table: Table, key: str, default: str) -> str:
    """The address of a service; ``default`` where it is left out, or is none."""
    text = table.value(key, str, default) or default
    try:
        return base_url(text)
    except ValueError as exc:
        table.problem(key, str(exc))
        return default


def required_table(root: Table, key: str) -> Table:
    """A required table; a missing one is a single problem, and its own keys are not reported as missing too."""
    found = root.table(key)
    return Table({}, Problems(), f"$.{key}") if found is None else found
