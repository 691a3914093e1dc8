"""``[audit]`` of ``attest.toml``: the log's name and key, and who else is shown what was signed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from attest.settings_parts import number_of, path_of, url_of
from policy.table import Table

ORIGIN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._:/-]{0,127}")
"""An audit log's name: a URL without its scheme."""


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


def audit_of(table: Table, folder: Path) -> AuditSettings:
    """Decode the table."""
    origin = table.value("origin", str) or ""
    if origin and not ORIGIN.fullmatch(origin):
        table.problem("origin", f'got "{origin[:60]}", want a name such as kbs.example/audit')
    witnesses = table.tables("witness") if table.has("witness") else ()
    return AuditSettings(
        origin,
        path_of(table, "log_key_file", folder),
        path_of(table, "seen_file", folder),
        tuple(_witness(entry) for entry in witnesses),
        timedelta(seconds=number_of(table, "checkpoint_seconds", 300, 0, 86400)),
    )


def _witness(table: Table) -> tuple[str, str]:
    found = url_of(table, "url", ""), table.value("key", str) or ""
    table.finish()
    return found
