"""From ``attest.toml`` to a :class:`Service`: files are read and checked once, before anything listens."""

from __future__ import annotations

import hashlib
import logging
from importlib.metadata import version
from pathlib import Path

from attest.broker.bell import Bell
from attest.broker.collateral import ServiceCollateral
from attest.broker.errors import ServiceMisconfigured
from attest.broker.limits import Limits
from attest.broker.operations import By
from attest.broker.policies import apply_policy, is_in_force, versions
from attest.broker.rules import active_document
from attest.broker.service import Service
from attest.broker.token import TokenSettings
from attest.broker.token_keys import StoredRing
from attest.broker.watched import Watched
from attest.keys.master import MasterKeys, load_master_keys
from attest.keys.ring import KeyRing, SigningRing
from attest.keys.signing import load_signing_key
from attest.keys.statement import POLICY, Signed, Signers, signature_beside, unwrap
from attest.keys.vault import Vault
from attest.keys.vault_settings import load_vault_settings
from attest.settings import Settings
from attest.store import rules
from attest.store.engine import Database
from policy.document import PolicyDocument, parse_policy
from policy.rego_rules import split_rego

_log = logging.getLogger("attest")


def open_database(settings: Settings) -> Database:
    """The database of these settings, checked to be ours."""
    database = Database(settings.database)
    database.check()
    return database


def open_service(settings: Settings, bell: Bell | None = None) -> Service:
    """Read the keys and open the database. Raises KeyFileRefused, StoreUnsupported, StoreUnavailable."""
    limits, database = settings.limits, open_database(settings)
    master_keys = load_master_keys(settings.master_key_file)
    return Service(
        database=database,
        master_keys=master_keys,
        signing_keys=ring_of(settings, database, master_keys),
        token=TokenSettings(
            settings.issuer,
            settings.audience,
            settings.token_lifetime,
            f"attest {version('cvm')}",
            settings.token_dialect,
        ),
        collateral=ServiceCollateral.of(settings.collateral),
        challenge_lifetime=settings.challenge_lifetime,
        signers=signers_of(settings),
        log_seen=None if settings.audit is None else settings.audit.seen_file,
        bell=bell,
        answer_key=None if settings.answer_key_file is None else load_signing_key(settings.answer_key_file),
        watched=Watched.of(settings),
        vault=vault_of(settings),
        limits=Limits.of(limits.address_per_minute, limits.chip_per_minute, limits.queue, limits.host_per_minute),
    )


def ring_of(settings: Settings, database: Database, master_keys: MasterKeys) -> KeyRing:
    """The keys that sign tokens, from files or from the database. Raises KeyFileRefused, and as StoredRing does."""
    if settings.token_key_file is None:
        return StoredRing(database, master_keys)
    return SigningRing(settings.token_key_file)


def vault_of(settings: Settings) -> Vault | None:
    """The server that keeps values of resources, where there is one. Raises KeyFileRefused."""
    return None if settings.vault_file is None else Vault(load_vault_settings(settings.vault_file))


def read_policy(path: Path) -> bytes:
    """The bytes of a policy file. Raises ServiceMisconfigured when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ServiceMisconfigured(f"policy {path}: {exc.strerror}", code="policy.unreadable") from None


def signers_of(settings: Settings) -> Signers:
    """Whose signatures policies and reference values must bear. Raises KeyFileRefused."""
    return Signers.load(settings.policy.signers, settings.policy.signatures)


def read_signed(path: Path) -> Signed:
    """A policy file with the signatures inside or beside it (``FILE.sig``). Raises SignatureRefused."""
    beside = signature_beside(path)
    try:
        return unwrap(read_policy(path), POLICY, beside.read_bytes() if beside.exists() else None)
    except OSError as exc:
        raise ServiceMisconfigured(f"policy {beside}: {exc.strerror}", code="policy.unreadable") from None


def apply_policy_file(database: Database, settings: Settings, by: By) -> PolicyDocument:
    """Put the policy of the settings in force; nothing changes if it is in force already.

    The signatures beside the file do not matter then: they are replaced first, and the machine may have stopped in
    between. Nor does the file where operators put another policy in force over the service since: a restart must not
    take that back, in no replica. Nor does Rego that was set over the administration API: it only refuses.
    """
    signers, data = signers_of(settings), read_policy(settings.policy.file)
    if is_in_force(database, data, signers):
        return parse_policy(data)
    if (newer := _put_in_force_since(database, data, signers)) is not None:
        _log.warning(
            "policy: %s is older than the one in force, which operators put there over the service",
            settings.policy.file,
        )
        return parse_policy(newer)
    if not signers.keys and (extended := _with_rego_in_force(database, data)) is not None:
        return parse_policy(extended)
    return apply_policy(database, read_signed(settings.policy.file), by, signers)


def _put_in_force_since(database: Database, data: bytes, signers: Signers) -> bytes | None:
    """The policy in force, where operators put it in force over the service, its signatures are good, and the file is
    an earlier version on record.
    """
    with database.read() as tx:
        known = versions(tx)
        if not known or not known[-1].over_the_service:
            return None
        active = active_document(tx)
    digest = hashlib.sha256(data).digest()
    if all(entry.sha256 != digest for entry in known):
        return None
    return active if is_in_force(database, active, signers) else None


def _with_rego_in_force(database: Database, data: bytes) -> bytes | None:
    """The policy in force, where it is this file and Rego that the service added to it."""
    with database.read() as tx:
        if rules.active_policy(tx) is None:
            return None
        active = active_document(tx)
    rest, marked = split_rego(active)
    return active if marked and rest == data else None
