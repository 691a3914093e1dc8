"""Everything one service process holds: database, keys, settings. Handlers and verbs get this and nothing global."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from attest.broker.bell import Bell
from attest.broker.collateral import ServiceCollateral
from attest.broker.limits import Limits
from attest.broker.presented import Memory
from attest.broker.rules import RulesInForce
from attest.broker.token import TokenSettings
from attest.broker.watched import Watched
from attest.keys.master import MasterKeys
from attest.keys.ring import KeyRing
from attest.keys.signing import SigningKey
from attest.keys.statement import Signers
from attest.keys.vault import Vault
from attest.store.engine import Database
from attest.store.group import GroupWrites


@dataclass(frozen=True, slots=True)
class Service:
    """``challenge_lifetime`` is how long a nonce may be used; a decision lives as long as its token.
    ``writes`` is how guests' requests write: those of several threads together. ``log_seen``: the file that says
    what of the audit log was signed last; ``bell`` has more of it signed.
    """

    database: Database
    master_keys: MasterKeys
    signing_keys: KeyRing
    token: TokenSettings
    collateral: ServiceCollateral
    challenge_lifetime: timedelta = timedelta(minutes=2)
    random: Callable[[int], bytes] = os.urandom
    rules: RulesInForce = field(init=False)
    writes: GroupWrites = field(init=False)
    memory: Memory = field(default_factory=Memory)
    limits: Limits = field(default_factory=Limits.none)
    signers: Signers = field(default_factory=Signers)
    answer_key: SigningKey | None = None
    watched: Watched = field(default_factory=Watched)
    vault: Vault | None = None
    log_seen: Path | None = None
    bell: Bell | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", RulesInForce(self.database, self.signers))
        object.__setattr__(self, "writes", GroupWrites(self.database))
