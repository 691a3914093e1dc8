"""Intel's part of an offline bundle: out of the cache, and in again after verifying every item."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from attest.collateral.cache import Entry
from attest.collateral.errors import CollateralRefused
from attest.collateral.intel_check import IntelItem, check_intel_parts
from attest.collateral.intel_source import PcsSource
from attest.collateral.intel_wanted import IntelKind, IntelWanted, PckCa, Tee, intel_wanted_from_name
from attest.collateral.wanted import NotAskable
from attest.endorsement.intel import IntelAnchors
from attest.evidence.bundle import BundleItem
from attest.evidence.intel_certificate import IntelRole
from attest.evidence.intel_file import IntelFile, read_intel_file
from attest.evidence.intel_json import TD_QE, TDX

_CA = {IntelRole.PLATFORM_CA: PckCa.PLATFORM, IntelRole.PROCESSOR_CA: PckCa.PROCESSOR}


def is_intels(name: str) -> bool:
    """Whether a bundle's item is one of Intel's things."""
    try:
        intel_wanted_from_name(name)
    except NotAskable:
        return False
    return True


def intel_bundle_items(source: PcsSource, anchors: IntelAnchors, now: datetime) -> list[BundleItem]:
    """Everything in the cache that verifies. Raises CacheUnusable."""
    items = []
    for wanted in source.things():
        held = source.cached(wanted, anchors, now)
        if held is not None:
            items.append(BundleItem(wanted.name, held.fetched, held.item.parts))
    return items


def intel_items_of_file(data: bytes, now: datetime) -> tuple[BundleItem, ...]:
    """Documents and lists of any file, with the certificates in it: answers, or collateral as libraries keep it.

    Documents count as of the standard channel: nothing in them says which one they were served by.
    """
    found = read_intel_file(data)
    items = {}
    for wanted, body, roles in _things(found):
        above = [item.der for role in roles for item in found.certificates if item.role is role]
        items[wanted.name] = BundleItem(wanted.name, now, (body, *above[:2]))
    return tuple(items.values())


def _things(found: IntelFile) -> Iterable[tuple[IntelWanted, bytes, tuple[IntelRole, ...]]]:
    """What to keep, the signed thing itself, and whose certificates belong to it."""
    signer = (IntelRole.TCB_SIGNING, IntelRole.ROOT)
    for info in found.tcb_infos:
        tee = Tee.TDX if info.id == TDX else Tee.SGX
        yield IntelWanted(IntelKind.TCB_INFO, tee, info.fmspc), _answer("tcbInfo", info.signed, info.signature), signer
    for identity in found.qe_identities:
        tee = Tee.TDX if identity.id == TD_QE else Tee.SGX
        body = _answer("enclaveIdentity", identity.signed, identity.signature)
        yield IntelWanted(IntelKind.QE_IDENTITY, tee), body, signer
    for crl in found.crls:
        if crl.issuer_role is IntelRole.ROOT:
            yield IntelWanted(IntelKind.ROOT_CRL), crl.der, (IntelRole.ROOT,)
        else:
            wanted = IntelWanted(IntelKind.PCK_CRL, ca=_CA[crl.issuer_role])
            yield wanted, crl.der, (crl.issuer_role, IntelRole.ROOT)


def _answer(member: str, signed: bytes, signature: bytes) -> bytes:
    """An answer as Intel serves it, around the signed text as it is."""
    return b'{"%s":%s,"signature":"%s"}' % (member.encode(), signed, signature.hex().encode())


def verified_intel(items: Iterable[BundleItem], anchors: IntelAnchors) -> list[tuple[IntelItem, datetime]]:
    """Every item with its time of fetching. Raises CollateralRefused."""
    return [(check_intel_parts(intel_wanted_from_name(item.name), item.parts, anchors), item.fetched) for item in items]


def store_intel(source: PcsSource, item: IntelItem, fetched: datetime, anchors: IntelAnchors, now: datetime) -> bool:
    """Keep ``item`` where it is newer than what the cache has and ever had; returns whether. Raises CacheUnusable."""
    wanted = item.wanted
    with source.cache.lock(wanted, 10.0):
        held = source.cached(wanted, anchors, now)
        if held is not None and (item.number, item.issued) <= (held.item.number, held.item.issued):
            return False
        try:
            source.refuse_older(item)
        except CollateralRefused:
            return False
        source.cache.write(Entry(wanted, item.parts, fetched, "bundle"))
        source.stored(item)
    return True
