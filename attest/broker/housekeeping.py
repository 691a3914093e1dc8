"""What the service does without being asked: it puts on record what it stands on, and signs the log's checkpoints.

One replica signs, the one that holds the lease; the others note what it signed in their own ``log.seen``, so that each
of them notices a database that was put back. Witnesses are asked here and nowhere near a request: one that is down is
named in the log and delays nobody.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from attest.audit.record import COLLATERAL_CHANGE, KEYS_CHANGE, ROLES_CHANGE, SETTINGS_CHANGE, Actor
from attest.broker.ends import End, ends, record_end
from attest.broker.log import LogSigner, checkpoint, follow
from attest.broker.operations import By
from attest.broker.service import Service
from attest.broker.standing import Inventory, record_change, replica_name
from attest.broker.standing_collateral import collateral_inventory
from attest.broker.standing_house import keys_inventory, roles_inventory, settings_inventory
from attest.broker.witnessing import Witness, cosign_checkpoint, witnesses_of
from attest.keys.log_key import load_log_key
from attest.settings import Settings
from attest.store import leases
from policy.errors import CvmError

LOOK_SECONDS = 30.0
"""Between two looks at collateral and keys."""
_SLACK = timedelta(seconds=60)
_log = logging.getLogger("attest.housekeeping")


@dataclass(slots=True)
class Housekeeper:
    """Of one replica. ``signer`` and ``interval`` are ``None`` where it signs no checkpoints by itself."""

    service: Service
    settings: Settings
    replica: str
    signer: LogSigner | None = None
    witnesses: tuple[Witness, ...] = ()
    interval: timedelta | None = None
    _due: datetime | None = field(default=None, init=False)
    _told: str = field(default="", init=False)
    _ended: set[End] = field(default_factory=set, init=False)

    @classmethod
    def of(cls, service: Service, settings: Settings) -> Housekeeper:
        """As the settings say. Raises KeyFileRefused, NoteMalformed for a witness's key."""
        audit, replica = settings.audit, replica_name(settings.server.listen)
        if audit is None:
            return cls(service, settings, replica)
        signer = LogSigner(load_log_key(audit.key_file, audit.origin), audit.seen_file)
        interval = audit.checkpoint_every
        witnesses = witnesses_of(audit.witnesses)
        return cls(service, settings, replica, signer=signer, witnesses=witnesses, interval=interval or None)

    def begin(self, now: datetime) -> None:
        """A start: everything the service stands on.

        What cannot be read of its own (roles, keys) is raised, for then it must not start; a cache of collateral that
        cannot be read is logged.
        """
        self._note(ROLES_CHANGE, roles_inventory(self.settings), now)
        self._note(SETTINGS_CHANGE, settings_inventory(self.settings, self.service), now)
        self.look_at_keys(now)
        _tried(self.look_at_collateral, now)

    def look_at_keys(self, now: datetime, actor: Actor | None = None) -> None:
        """The files of keys are read again while it runs. ``actor``: who has just changed one, where that is known."""
        log = None if self.signer is None else self.signer.key
        self._note(KEYS_CHANGE, keys_inventory(self.service, self.settings, log), now, actor)

    def look_at_collateral(self, now: datetime) -> None:
        """Folder and caches as they are now. Raises CacheUnusable."""
        document = self.service.rules.current().document
        self._note(COLLATERAL_CHANGE, collateral_inventory(self.service.collateral, document, now), now)

    def look_at_references(self, now: datetime) -> None:
        """Put on record which reference values a date has ended, once for each. Raises StoreUnavailable."""
        found = ends(self.service.rules.current(), now)
        for end in found:
            if end not in self._ended:
                record_end(self.service.database, end, self._by(now))
        self._ended = set(found)  # what is registered again after it was retired ends again

    def sign_if_due(self, now: datetime) -> None:
        """Sign a checkpoint once an interval where this replica holds the lease, else note what was signed.

        Raises AuditBroken where the log does not extend what was signed before.
        """
        if self.signer is None or self.interval is None or (self._due is not None and now < self._due):
            return
        self._due = now + self.interval
        database = self.service.database
        with database.write() as tx:
            ours = leases.take(tx, "checkpoint", f"{self.replica}/{os.getpid()}", now, now + 2 * self.interval + _SLACK)
        if ours:
            self.sign(now)
        else:
            follow(database, self.signer)

    def sign(self, now: datetime) -> None:
        """Sign one now, whoever holds the lease: somebody asks for it. Raises AuditBroken."""
        if self.signer is None:
            return
        database = self.service.database
        cosigned = cosign_checkpoint(database, checkpoint(database, self.signer, now), self.witnesses)
        self._tell("; ".join(f"witness {name}: {why}" for name, why in cosigned.missing.items()))

    def _tell(self, missing: str) -> None:
        """Once for each change, not once an interval."""
        if missing != self._told:
            _log.warning("checkpoint: %s", missing or "all witnesses cosign again")
        self._told = missing

    def _note(self, kind: str, inventory: Inventory, now: datetime, actor: Actor | None = None) -> None:
        record_change(self.service.database, kind, inventory, self.replica, self._by(now, actor))

    def _by(self, now: datetime, actor: Actor | None = None) -> By:
        return By(actor or Actor("service", self.replica), now)


def keep_house(
    keeper: Housekeeper,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    wait: Callable[[float], bool | None] = time.sleep,
) -> None:
    """For as long as the process lives. What fails is logged and tried again. ``wait`` says whether it ended early
    because somebody asked for a checkpoint.
    """
    while True:
        for act in (keeper.look_at_keys, keeper.look_at_collateral, keeper.look_at_references, keeper.sign_if_due):
            _tried(act, clock())
        seconds = LOOK_SECONDS if keeper.interval is None else min(LOOK_SECONDS, keeper.interval.total_seconds())
        if wait(seconds):
            _tried(keeper.sign, clock())


def _tried(act: Callable[[datetime], None], now: datetime) -> None:
    try:
        act(now)
    except CvmError as exc:
        _log.error("%s", exc.message)
