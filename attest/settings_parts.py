"""What every part of ``attest.toml`` is made of: addresses, and paths relative to the file's own folder."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from policy.table import Table


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
