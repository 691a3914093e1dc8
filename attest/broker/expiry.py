"""What ends when: certificates, their revocation lists, collateral, token keys, reference values, approvals …

One warning 30, 7 and 1 days before the end, and one at it. A warning counts only for what lives more than twice as
long: an Intel document, which never lives longer than 30 days, is not always due.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

from cryptography import x509

from attest.audit.canonical import rfc3339
from attest.broker.appraise import anchors_of
from attest.broker.collateral import ServiceCollateral
from attest.broker.present_tdx import intel_anchors_of
from attest.broker.rules import Rules, RulesInForce
from attest.broker.watched import Watched
from attest.collateral.intel_status import intel_status
from attest.collateral.published import published_authorities
from attest.collateral.status import cache_status
from attest.keys.client_crl import ClientCrlRefused, client_crls_of
from attest.keys.ring import ring_begins
from attest.store import grants, token_keys
from attest.store.engine import Database

DAYS = (1, 7, 30)
ENDED = 0


@dataclass(frozen=True, slots=True)
class Expiring:
    """One thing that ends. ``begins`` where that is known; ``problem`` where it cannot be read, so nobody knows."""

    kind: str
    name: str
    expires: datetime | None
    begins: datetime | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Expiries:
    """Where to look."""

    database: Database
    rules: RulesInForce
    collateral: ServiceCollateral
    watched: Watched

    def at(self, now: datetime) -> tuple[Expiring, ...]:
        """Everything that ends, what cannot be read first, then the soonest. Nothing is fetched.

        Raises StoreUnavailable, ServiceMisconfigured while no policy is in force, CollateralUnreadable.
        """
        rules = self.rules.current()
        found = [*_certificates(self.watched), *_client_crls(self.watched), *self._token_keys(), *_rules(rules)]
        found += [*_folder(self.collateral), *cached(self.collateral, rules, now)]
        with self.database.read() as tx:
            found += [
                Expiring("approval", f"{path} ({given.purpose}, {given.operator})", given.expires, given.given)
                for path, given in grants.all_in_force(tx, now)
            ]
        return ordered(found)

    def _token_keys(self) -> Iterator[Expiring]:
        """The newest key is due when it has signed for long enough and no successor is there."""
        path, life = self.watched.token_keys, self.watched.key_life
        if life is None:
            return
        if path is not None:
            begun = ring_begins(path)
        else:
            with self.database.read() as tx:
                begun = tuple((row.kid, row.begins) for row in token_keys.every(tx))
        for name, begins in begun[-1:]:
            yield Expiring("token-key", name, begins + life, begins)


def ordered(found: list[Expiring]) -> tuple[Expiring, ...]:
    """What cannot be read first, then the soonest."""
    first = datetime.min.replace(tzinfo=UTC)
    return tuple(sorted(set(found), key=lambda item: (item.expires or first, item.kind, item.name)))


def due(item: Expiring, now: datetime) -> int | None:
    """The smallest of 1, 7 and 30 days within which it ends, :data:`ENDED`, or ``None``: not yet."""
    if item.expires is None or item.expires <= now:
        return ENDED
    life = None if item.begins is None else item.expires - item.begins
    for days in DAYS:
        if item.expires - now <= timedelta(days=days):
            return days if life is None or life > 2 * timedelta(days=days) else None
    return None


def expiring_json(item: Expiring, now: datetime) -> dict[str, Any]:
    """One thing for listings; ``due`` as :func:`due` says it."""
    return {
        "kind": item.kind,
        "name": item.name,
        "expires": None if item.expires is None else rfc3339(item.expires),
        "days_left": None if item.expires is None else (item.expires - now) // timedelta(days=1),
        "due": due(item, now),
        "problem": item.problem,
    }


def _certificates(watched: Watched) -> Iterator[Expiring]:
    for name, path in watched.certificates:
        try:
            found = x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError) as exc:
            yield Expiring("certificate", f"{name} ({path.name})", None, problem=str(exc)[:120])
            continue
        for number, certificate in enumerate(found, 1):
            shown = f"{name} ({path.name})" if len(found) == 1 else f"{name} ({path.name}, number {number})"
            yield Expiring("certificate", shown, certificate.not_valid_after_utc, certificate.not_valid_before_utc)


def _client_crls(watched: Watched) -> Iterator[Expiring]:
    for who, authority in watched.authorities:
        path = authority.crl
        name = f"of {who}s ({path.name if path else ''})"
        try:
            for crl in client_crls_of(authority):
                yield Expiring("client-crl", name, crl.ends, crl.begins)
        except ClientCrlRefused as exc:
            yield Expiring("client-crl", name, None, problem=exc.message.rpartition(f"{path}: ")[2][:120])


def _rules(rules: Rules) -> Iterator[Expiring]:
    for value in rules.references:
        if value.expires is not None:
            yield Expiring("reference", value.name, value.expires, value.created)
    for table, intel in (("tdx", rules.document.tdx), ("sgx", rules.document.sgx)):
        for entry in () if intel is None else intel.tcb.advisories:
            last = datetime.combine(entry.until, time(), UTC) + timedelta(days=1)
            yield Expiring("advisory", f"{entry.id} ({table}, policy {rules.document.name})", last)


def _folder(collateral: ServiceCollateral) -> Iterator[Expiring]:
    """What people put into the folder, but for what the program has anyway."""
    amd, own = collateral.folder.current(), published_authorities()
    for certificate in (*amd.leaves, *amd.intermediates, *amd.roots):
        if certificate not in (*own.intermediates, *own.roots):
            name = f"{certificate.role.value} {certificate.product.value} {certificate.sha256.hex()[:12]}"
            yield Expiring("amd-certificate", name, certificate.not_after, certificate.not_before)
    for crl in amd.crls:
        yield Expiring("amd-crl", f"{crl.product.value} {crl.sha256.hex()[:12]}", crl.next_update, crl.this_update)
    intel = collateral.intel.folder.current()
    for chain in intel.certificates:
        name = f"{chain.role.value} {chain.sha256.hex()[:12]}"
        yield Expiring("intel-certificate", name, chain.not_after, chain.not_before)
    for listed in intel.crls:
        yield Expiring(
            "intel-crl", f"{listed.issuer_role.value} {listed.number}", listed.next_update, listed.this_update
        )
    for tcb in intel.tcb_infos:
        yield Expiring("intel-tcb-info", f"{tcb.id} {tcb.fmspc.hex()}", tcb.next_update, tcb.issued)
    for identity in intel.qe_identities:
        yield Expiring("intel-qe-identity", identity.id, identity.next_update, identity.issued)


def cached(collateral: ServiceCollateral, rules: Rules, now: datetime) -> Iterator[Expiring]:
    """What was fetched or imported."""
    if collateral.source is not None:
        anchors = anchors_of(rules.document, collateral.folder.current())
        for item in cache_status(collateral.source, anchors, now):
            kind, ends = f"amd-{item.wanted.kind.value}", item.expires
            yield Expiring(kind, item.wanted.name, ends, problem=_state(ends))
    if collateral.intel.source is not None:
        for thing in intel_status(collateral.intel.source, intel_anchors_of(rules.document), now):
            kind = f"intel-{thing.wanted.kind.value}"
            yield Expiring(kind, thing.wanted.name, thing.expires, thing.issued, _state(thing.expires))


def _state(expires: datetime | None) -> str | None:
    return "does not verify" if expires is None else None
