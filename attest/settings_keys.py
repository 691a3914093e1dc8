"""``[keys]`` of ``attest.toml`` where it leaves a choice: where the master key and the keys of tokens come from."""

from __future__ import annotations

import os
from pathlib import Path

from attest.settings_parts import path_of
from policy.table import Table

CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
"""systemd names the folder of a unit's credentials in this variable (systemd.exec(5)); it holds no secret itself."""


def master_key_of(table: Table, folder: Path) -> Path:
    """The file of the master keys."""
    if not table.has("master_key_credential"):
        return path_of(table, "master_key_file", folder)
    name = table.value("master_key_credential", str) or ""
    directory = os.environ.get(CREDENTIALS_DIRECTORY)
    if table.has("master_key_file"):
        table.problem("master_key_credential", "want either this or master_key_file, not both")
    if directory is None:
        table.problem("master_key_credential", "systemd gave no credentials: LoadCredential= is missing in the unit")
    if not name or "/" in name:
        table.problem("master_key_credential", f'got "{name[:40]}", want the name of a credential')
    return Path(directory or "") / name


def token_keys_of(table: Table, folder: Path) -> Path | None:
    """The file or folder of the keys that sign tokens; ``None`` where the database has them."""
    if not table.has("token_keys"):
        return path_of(table, "token_key_file", folder)
    if table.has("token_key_file"):
        table.problem("token_keys", "want either this or token_key_file, not both")
    table.choice("token_keys", ("database",), "database")
    return None
