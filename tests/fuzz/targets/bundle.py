"""Fuzz target: a bundle parses completely and can be written again, or is refused with our error."""

from __future__ import annotations

from attest.collateral.check import check_parts
from attest.collateral.errors import CollateralRefused
from attest.collateral.wanted import NotAskable, wanted_from_name
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.pool import EndorsementSet
from attest.evidence.bundle import BundleMalformed, build_bundle, parse_bundle

ANCHORS = TrustAnchors.amd()


def one(data: bytes) -> None:
    """What is accepted says the same when it is written again; its items verify or are refused."""
    try:
        items = parse_bundle(data)
    except BundleMalformed:
        return
    if sorted(parse_bundle(build_bundle(items))) != sorted(items):
        raise RuntimeError("a bundle changed when it was written again")
    for item in items:
        try:
            check_parts(wanted_from_name(item.name), item.parts, ANCHORS, EndorsementSet())
        except (NotAskable, CollateralRefused):
            continue
