"""A resource whose value stays in the KV engine of OpenBao or Vault: the place is stored once it can be read there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attest.broker.errors import RequestMalformed, RequestUnsupported
from attest.broker.operations import By, NewResource, put_resource
from attest.keys.errors import KeyFileRefused
from attest.keys.kv import SOURCE, KvPlace, kv_place, read_secret
from attest.keys.master import MasterKeys
from attest.keys.vault import Vault
from attest.store.engine import Database
from policy.secret import SecretBytes
from policy.vocab import ResourcePath

MOUNT = "secret"


@dataclass(frozen=True, slots=True)
class KvLink:
    """``field`` of the secret ``where`` in the engine at ``mount`` is the value of ``path``; with ``version`` of that
    version only. ``encoded``: the field is base64. ``replace`` and ``only_for``: as of any resource.
    """

    path: ResourcePath
    where: str
    field: str
    mount: str = MOUNT
    version: int | None = None
    encoded: bool = False
    replace: bool = False
    only_for: tuple[str, ...] | None = None

    def place(self) -> KvPlace:
        """Raises RequestMalformed."""
        try:
            return kv_place(self.mount, self.where, self.field, self.version, encoded=self.encoded)
        except KeyFileRefused as exc:
            raise RequestMalformed(f"link: {exc.message}") from None


def link_resource(database: Database, keys: MasterKeys, vault: Vault | None, link: KvLink, by: By) -> dict[str, Any]:
    """Store the place; returns path, version and place in words.

    Raises RequestMalformed, RequestUnsupported where the settings name no server, VaultUnavailable where there is no
    such value now, and what put_resource raises.
    """
    place = link.place()
    if vault is None:
        raise RequestUnsupported(
            "link: the service's settings name no server", hint='[keys] vault = "vault.toml" in attest.toml'
        )
    read_secret(vault, place).wipe()
    new = NewResource(link.path, SecretBytes(place.to_bytes()), link.replace, link.only_for, source=SOURCE)
    version = put_resource(database, keys, new, by)
    return {"path": link.path, "version": version, "kept": str(place)}
