"""The collateral in force: what the operator's folder and the caches hold of makers' authorities, lists and levels.

Certificates of single chips are left out: they say nothing about others, there may be many thousands, and each decision
keeps the one it was made with. Whether a thing has ended is no change of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime

from attest.broker.appraise import anchors_of
from attest.broker.collateral import ServiceCollateral
from attest.broker.present_tdx import intel_anchors_of
from attest.broker.standing import Inventory, Piece
from attest.collateral.errors import CollateralUnreadable
from attest.collateral.published import published_authorities
from attest.collateral.wanted import Kind
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.intel_pool import IntelCollateral
from attest.endorsement.pool import EndorsementSet
from attest.evidence.intel_json import QeIdentity, TcbInfo
from policy.document import PolicyDocument

_Named = tuple[str, Piece]


def collateral_inventory(collateral: ServiceCollateral, document: PolicyDocument, now: datetime) -> Inventory:
    """By name. A folder that cannot be read is a piece that says so. Raises CacheUnusable."""
    authorities = published_authorities()
    try:
        authorities = collateral.folder.current()
        found = [*_amd_folder(authorities), *_intel_folder(collateral.intel.folder.current())]
    except CollateralUnreadable as exc:
        found = [("folder", Piece({"unreadable": exc.message}))]
    anchors = anchors_of(document, authorities)
    return dict([*found, *_amd_cache(collateral, anchors, now), *_intel_cache(collateral, document, now)])


def _amd_folder(held: EndorsementSet) -> Iterator[_Named]:
    for certificate in (*held.roots, *held.intermediates):
        what = f"{certificate.product.value} {certificate.role.name}"
        yield _piece("folder", what, certificate.sha256, (certificate.der,), ends=certificate.not_after)
    for crl in held.crls:
        yield _piece("folder", f"{crl.product.value} revocation list", crl.sha256, (crl.der,), ends=crl.next_update)


def _intel_folder(held: IntelCollateral) -> Iterator[_Named]:
    for certificate in held.certificates:
        if certificate.is_ca:
            yield _piece("folder", certificate.name, certificate.sha256, (certificate.der,), ends=certificate.not_after)
    for crl in held.crls:
        what = f"revocation list of {crl.issuer_role.value}"
        yield _piece("folder", what, crl.sha256, (crl.der,), ends=crl.next_update, number=crl.number)
    for info in held.tcb_infos:
        yield _document(f"{info.id} TCB info of FMSPC {info.fmspc.hex()}", info)
    for identity in held.qe_identities:
        yield _document(f"{identity.id} identity", identity)


def _amd_cache(collateral: ServiceCollateral, anchors: TrustAnchors, now: datetime) -> Iterator[_Named]:
    source = collateral.offline().source
    if source is None:
        return
    for wanted in source.things():
        if wanted.kind is not Kind.VCEK:
            held = source.cached(wanted, anchors, now)
            yield _kept(str(wanted), None if held is None else held.item.ders)


def _intel_cache(collateral: ServiceCollateral, document: PolicyDocument, now: datetime) -> Iterator[_Named]:
    source = collateral.offline().intel.source
    if source is None:
        return
    anchors = intel_anchors_of(document)
    for wanted in source.things():
        held = source.cached(wanted, anchors, now)
        yield _kept(str(wanted), None if held is None else held.item.parts)


def _piece(source: str, what: str, sha256: bytes, data: tuple[bytes, ...], **more: object) -> _Named:
    """A folder may hold several of a kind: the digest is part of the name."""
    return f"{source}: {what} {sha256.hex()[:16]}", Piece({"sha256": [sha256], **more}, data)


def _document(what: str, found: TcbInfo | QeIdentity) -> _Named:
    data = (found.signed + found.signature,)
    return _piece("folder", what, found.sha256, data, ends=found.next_update, number=found.number)


def _kept(what: str, parts: Iterable[bytes] | None) -> _Named:
    """A thing in a cache; ``None``: there is a file, but nothing in it that verifies under the policy's roots."""
    if parts is None:
        return f"cache: {what}", Piece({"verifies": False})
    data = tuple(parts)
    return f"cache: {what}", Piece({"sha256": [_sha256(part) for part in data]}, data)


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
