"""From ``attest.toml`` to a :class:`Service`: files are read and checked once, before anything listens."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from attest.broker.collateral import ServiceCollateral
from attest.broker.errors import ServiceMisconfigured
from attest.broker.limits import Limits
from attest.broker.operations import By, apply_policy
from attest.broker.service import Service
from attest.broker.token import TokenSettings
from attest.keys.master import load_master_keys
from attest.keys.ring import SigningRing
from attest.settings import Settings
from attest.store.engine import Database
from policy.document import PolicyDocument


def open_database(settings: Settings) -> Database:
    """The database of these settings, checked to be ours."""
    database = Database(settings.database)
    database.check()
    return database


def open_service(settings: Settings) -> Service:
    """Read the keys and open the database. Raises KeyFileRefused, StoreUnsupported, StoreUnavailable."""
    limits = settings.limits
    return Service(
        database=open_database(settings),
        master_keys=load_master_keys(settings.master_key_file),
        signing_keys=SigningRing(settings.token_key_file),
        token=TokenSettings(
            settings.issuer,
            settings.audience,
            settings.token_lifetime,
            f"attest {version('cvm')}",
            settings.token_dialect,
        ),
        collateral=ServiceCollateral.of(settings.collateral),
        challenge_lifetime=settings.challenge_lifetime,
        limits=Limits.of(limits.address_per_minute, limits.chip_per_minute, limits.queue),
    )


def read_policy(path: Path) -> bytes:
    """The bytes of a policy file. Raises ServiceMisconfigured when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ServiceMisconfigured(f"policy {path}: {exc.strerror}", code="policy.unreadable") from None


def apply_policy_file(database: Database, path: Path, by: By) -> PolicyDocument:
    """Put the policy of a file in force; nothing changes if it is in force already."""
    return apply_policy(database, read_policy(path), by)
