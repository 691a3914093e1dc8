"""How an OpenBao or HashiCorp Vault server is reached: a TOML file that holds no secret itself, only where one is.

    url = "https://vault.example:8200"
    ca = "vault-ca.pem"                 # the only authority whose certificates the server may show
    namespace = "team"                  # where there are namespaces

    [auth]
    kind = "token"                      # file = "vault.token"
                                        # or "approle": role_id, secret_id_file
                                        # or "cert": certificate, key, and role where the server wants one
    mount = "approle"                   # where the method is mounted, if elsewhere

Paths are relative to the file's own folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from attest.keys.errors import KeyFileRefused
from policy.table import Problems, Table
from policy.toml import TomlInvalid, strict_toml

TOKEN, APPROLE, CERT = KINDS = ("token", "approle", "cert")
_MOUNT = re.compile(r"[A-Za-z0-9_-]{1,60}(?:/[A-Za-z0-9_-]{1,60}){0,4}")


@dataclass(frozen=True, slots=True)
class VaultAuth:
    """How to log in. ``secret_file`` holds the token or the SecretID; certificate and key are for ``cert``."""

    kind: str
    mount: str
    secret_file: Path | None = None
    role: str = ""
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """One server, or a cluster behind one name."""

    host: str
    port: int
    ca: Path
    namespace: str
    auth: VaultAuth

    def __str__(self) -> str:
        return f"https://{self.host}:{self.port}"


def load_vault_settings(path: Path) -> VaultSettings:
    """Read and decode. Raises KeyFileRefused with every problem."""
    try:
        problems, table = Problems(), strict_toml(path.read_bytes())
    except OSError as exc:
        raise KeyFileRefused(f"vault settings {path}: {exc.strerror}") from None
    except TomlInvalid as exc:
        raise KeyFileRefused(f"vault settings {path}: {exc.message}") from None
    settings = _decode(Table(table, problems), path.absolute().parent)
    if problems.found:
        raise KeyFileRefused(f"vault settings {path}: " + "; ".join(problems.found))
    return settings


def mount_path(text: object, what: str) -> str:
    """The path of a mount, or of a key or secret below it. Raises KeyFileRefused."""
    if not isinstance(text, str) or not _MOUNT.fullmatch(text):
        raise KeyFileRefused(f"{what}: got {str(text)[:60]!r}, want names of letters, digits, _ and - between slashes")
    return text


def _decode(root: Table, folder: Path) -> VaultSettings:
    parts = urlsplit(root.value("url", str) or "")
    if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.username:
        root.problem("url", "want https://host:port")
    ca = folder / (root.value("ca", str, want="a path") or "")
    namespace = root.value("namespace", str, "") or ""
    auth = root.table("auth")
    found = VaultAuth("", "") if auth is None else _auth(auth, folder)
    root.finish()
    return VaultSettings(parts.hostname or "", parts.port or 8200, ca, namespace, found)


def _auth(table: Table, folder: Path) -> VaultAuth:
    kind = table.choice("kind", KINDS, TOKEN) or TOKEN
    mount = table.value("mount", str, kind) or kind
    if not _MOUNT.fullmatch(mount):
        table.problem("mount", "want names of letters, digits, _ and - between slashes")
    file = {TOKEN: "file", APPROLE: "secret_id_file"}.get(kind)
    role = {APPROLE: "role_id", CERT: "role"}.get(kind)
    auth = VaultAuth(
        kind,
        mount,
        secret_file=None if file is None else folder / (table.value(file, str, want="a path") or ""),
        role="" if role is None else table.value(role, str, *([""] if kind == CERT else [])) or "",
        certificate=folder / (table.value("certificate", str, want="a path") or "") if kind == CERT else None,
        key=folder / (table.value("key", str, want="a path") or "") if kind == CERT else None,
    )
    table.finish()
    return auth
