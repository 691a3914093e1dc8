"""What the parts of ``attest.toml`` are made of: addresses, bounded numbers, paths relative to the file."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from attest.collateral.url import base_url
from policy.table import Problems, Table


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
