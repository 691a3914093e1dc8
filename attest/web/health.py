"""Is this replica fit for work? Four checks, each with one word for operators.

``database``: it answers. ``keys``: every key that a stored resource is sealed under is at hand. ``policy``: one is in
force. A replica that fails one of these cannot release anything, and a balancer should leave it alone.

``collateral``: no revocation list of AMD's at hand is past its next update. It never makes a replica unready: all
replicas would fail together, while guests whose policy asks for no list could still be served, and the rest are told
503 one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from attest.broker.appraise import anchors_of
from attest.broker.service import Service
from attest.collateral.status import DAMAGED, EXPIRED, STALE, cache_status
from attest.store import secrets
from policy.errors import CvmError

OK = "ok"
NEEDED = ("database", "keys", "policy")


def checks(service: Service, now: datetime) -> dict[str, str]:
    """Every check: ``ok``, or the code of what is wrong."""
    return {
        "database": _outcome(lambda: _database(service)),
        "keys": _outcome(lambda: _keys(service)),
        "policy": _outcome(lambda: _policy(service)),
        "collateral": _outcome(lambda: _collateral(service, now)),
    }


def ready(found: dict[str, str]) -> bool:
    """Whether guests can be served."""
    return all(found[name] == OK for name in NEEDED)


def _outcome(check: Callable[[], str]) -> str:
    try:
        return check()
    except CvmError as exc:
        return exc.code


def _database(service: Service) -> str:
    service.database.check()
    return OK


def _keys(service: Service) -> str:
    with service.database.read() as tx:
        used = secrets.master_key_ids(tx)
    for key_id in used:
        service.master_keys.get(key_id)
    return OK


def _policy(service: Service) -> str:
    service.rules.current()
    return OK


def _collateral(service: Service, now: datetime) -> str:
    collateral = service.collateral
    own = collateral.folder.current()
    late = [crl for crl in own.crls if crl.next_update is None or crl.next_update < now]
    if collateral.source is not None:
        anchors = anchors_of(service.rules.current().document, own)
        items = cache_status(collateral.source, anchors, now)
        if any(item.state in (STALE, EXPIRED, DAMAGED) for item in items):
            return "collateral.stale"
    return "collateral.stale" if late else OK
