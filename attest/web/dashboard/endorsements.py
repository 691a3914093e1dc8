"""What chips are vouched for with: certificates, revocation lists, TCB infos; in which state, and when each ends."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from attest.audit.canonical import rfc3339
from attest.broker.appraise import anchors_of
from attest.broker.present_tdx import intel_anchors_of
from attest.collateral.intel_status import intel_status
from attest.collateral.status import DAMAGED, EXPIRED, GOOD, SOON, SOON_BEFORE, STALE, cache_status
from attest.errors import AttestError
from attest.evidence.intel_json import TcbInfo
from attest.store import blobs, rules
from attest.web.dashboard.house import Ask
from policy.document import PolicyDocument, parse_policy

BAD = (STALE, EXPIRED, DAMAGED)
_MINUTE = "%Y-%m-%dT%H:%M"


def endorsements(ask: Ask) -> dict[str, Any]:
    """Every piece by the day it ends, and the TCB levels Intel lists."""
    return {"items": endorsement_items(ask), "tcb_infos": [_levels(info, ask.now) for info in _tcb_infos(ask)]}


def endorsement_items(ask: Ask) -> list[dict[str, Any]]:
    """Folder and caches, soonest end first; looked at once a minute, for signatures are checked."""
    found: list[dict[str, Any]] = ask.house.once(("endorsements", ask.now.strftime(_MINUTE)), lambda: _look(ask))
    return found


def _look(ask: Ask) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for read in (_amd_folder, _intel_folder, _caches):
        try:
            found += read(ask)
        except AttestError as exc:
            found.append(_item(exc.message, "unreadable", "folder", None, ask.now) | {"state": DAMAGED})
    return sorted(found, key=lambda item: (item["expires"] is None, item["expires"] or "", item["name"]))


def _item(name: str, kind: str, source: str, expires: datetime | None, now: datetime, **more: Any) -> dict[str, Any]:
    late = expires is None or expires <= now
    state = (STALE if kind == "list" else EXPIRED) if late else GOOD
    if not late and expires is not None and expires - now < SOON_BEFORE:
        state = SOON
    ends = None if expires is None else rfc3339(expires)
    return {"name": name, "kind": kind, "source": source, "expires": ends, "state": state, **more}


def _amd_folder(ask: Ask) -> Iterator[dict[str, Any]]:
    found = ask.house.collateral.folder.current()
    for certificate in (*found.roots, *found.intermediates, *found.leaves):
        name = f"{certificate.product.value} {certificate.role.name} certificate"
        yield _item(name, "certificate", "folder", certificate.not_after, ask.now, sha256=certificate.sha256.hex())
    for crl in found.crls:
        name = f"{crl.product.value} revocation list"
        yield _item(name, "list", "folder", crl.next_update, ask.now, sha256=crl.sha256.hex())


def _intel_folder(ask: Ask) -> Iterator[dict[str, Any]]:
    found = ask.house.collateral.intel.folder.current()
    for certificate in found.certificates:
        yield _item(certificate.role.value, "certificate", "folder", certificate.not_after, ask.now)
    for crl in found.crls:
        name = f"revocation list of {crl.issuer_role.value}"
        yield _item(name, "list", "folder", crl.next_update, ask.now, number=crl.number)
    for info in found.tcb_infos:
        name = f"{info.id} TCB info of FMSPC {info.fmspc.hex()}"
        yield _item(name, "tcb-info", "folder", info.next_update, ask.now, number=info.number)
    for identity in found.qe_identities:
        yield _item(f"{identity.id} identity", "qe-identity", "folder", identity.next_update, ask.now)


def _caches(ask: Ask) -> Iterator[dict[str, Any]]:
    collateral, document = ask.house.collateral, _policy(ask)
    if document is None:
        return
    if collateral.source is not None:
        for held in cache_status(collateral.source, anchors_of(document, collateral.folder.current()), ask.now):
            kind = "list" if held.wanted.kind.value == "crl" else "certificate"
            yield _item(str(held.wanted), kind, "cache", held.expires, ask.now) | {"state": held.state}
    if collateral.intel.source is not None:
        for item in intel_status(collateral.intel.source, intel_anchors_of(document), ask.now):
            kind = "list" if item.wanted.is_list else "tcb-info"
            yield _item(str(item.wanted), kind, "cache", item.expires, ask.now) | {"state": item.state}


def _policy(ask: Ask) -> PolicyDocument | None:
    digest = rules.active_policy(ask.tx)
    data = None if digest is None else blobs.get(ask.tx, digest)
    return None if data is None else parse_policy(data)


def _tcb_infos(ask: Ask) -> list[TcbInfo]:
    try:
        found = ask.house.collateral.intel.folder.current()
    except AttestError:  # it is among the items, with its reason
        return []
    return sorted(found.tcb_infos, key=lambda info: (info.fmspc, -info.number))


def _levels(info: TcbInfo, now: datetime) -> dict[str, Any]:
    return {
        "fmspc": info.fmspc.hex(),
        "kind": info.id,
        "number": info.number,
        "issued": rfc3339(info.issued),
        "expires": rfc3339(info.next_update),
        "days_left": (info.next_update - now) // timedelta(days=1),
        "levels": [
            {
                "status": level.status.value,
                "date": rfc3339(level.date),
                "tdx": ".".join(map(str, level.tdx[:3])),
                "sgx": ".".join(map(str, level.sgx[:8])),
                "pcesvn": level.pcesvn,
                "advisories": list(level.advisories),
            }
            for level in info.levels
        ],
    }
