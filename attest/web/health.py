"""Is this replica fit for work? Six checks, each with one word for operators.

``database``: it answers. ``keys``: every key that a stored resource is sealed under is at hand,
and a server that keeps one is open to us. ``policy``: one is in
force. A replica that fails one of these cannot release anything, and a balancer should leave it alone.

``collateral``: no revocation list in the operator's folder is past its next update, and nothing in the caches of AMD's
and Intel's things is past its end or damaged. It never makes a replica unready: all replicas would fail together, while
guests whose policy asks for no list could still be served, and the rest are told 503 one by one. ``renewal``: where a
timer keeps the cache current, it runs and nothing it asks for fails; like ``collateral`` it is for operators to act on
while everything still works. ``log``: the audit log extends what was signed last; a database that was put back does
not, and goes on serving, for its records count from there.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from attest.broker.appraise import anchors_of
from attest.broker.log import check_against
from attest.broker.present_tdx import intel_anchors_of
from attest.broker.service import Service
from attest.collateral.intel_status import intel_status
from attest.collateral.renewal import renewal_problem
from attest.collateral.status import DAMAGED, EXPIRED, STALE, cache_status
from attest.store import secrets, token_keys
from policy.errors import CvmError

OK = "ok"
HEALTH = ("/healthz", "/readyz")
"""The paths that say it."""
_LATE = (STALE, EXPIRED, DAMAGED)
NEEDED = ("database", "keys", "policy")


def checks(service: Service, now: datetime) -> dict[str, str]:
    """Every check: ``ok``, or the code of what is wrong."""
    return {
        **needed(service),
        "collateral": _outcome(lambda: _collateral(service, now)),
        "renewal": _outcome(lambda: _renewal(service, now)),
        "log": _outcome(lambda: _log(service)),
    }


def needed(service: Service) -> dict[str, str]:
    """Those that decide whether guests can be served, for anybody who asks: the others look through whole caches."""
    return {
        "database": _outcome(lambda: _database(service)),
        "keys": _outcome(lambda: _keys(service)),
        "policy": _outcome(lambda: _policy(service)),
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
        used = {*secrets.master_key_ids(tx), *token_keys.master_key_ids(tx)}
    for key_id in sorted(used):
        service.master_keys.get(key_id).check()
    return OK


def _policy(service: Service) -> str:
    service.rules.current()
    return OK


def _log(service: Service) -> str:
    if service.log_seen is not None:
        check_against(service.database, service.log_seen)
    return OK


def _renewal(service: Service, now: datetime) -> str:
    folder = service.collateral.renewed
    return OK if folder is None else renewal_problem(folder, now) or OK


def _collateral(service: Service, now: datetime) -> str:
    collateral, document = service.collateral, service.rules.current().document
    amd, intel = collateral.folder.current(), collateral.intel.folder.current()
    ends = [*(crl.next_update for crl in amd.crls), *(crl.next_update for crl in intel.crls)]
    states: list[str] = []
    if collateral.source is not None:
        anchors = anchors_of(document, amd)
        states += [item.state for item in cache_status(collateral.source, anchors, now)]
    if collateral.intel.source is not None:
        anchors_intel = intel_anchors_of(document)
        states += [item.state for item in intel_status(collateral.intel.source, anchors_intel, now)]
    late = any(end is None or end < now for end in ends) or any(state in _LATE for state in states)
    return "collateral.stale" if late else OK
