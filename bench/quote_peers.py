"""A TDX quote to its verdict, beside ``dcap-qvl`` (Rust, from PyPI), on the same bytes in the same process.

``cached``: another quote of a platform whose chain and collateral were seen before; dates, revocation and TCB level are
judged for the moment of the call. ``new``: nothing is remembered, and everything is parsed from bytes, as the peer does
on each call. CPU seconds of one core, in interleaved rounds; ratios are ours divided by the peer's.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attest.endorsement.intel import IntelAnchors
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.intel_certificate import IntelCertificate, IntelCrl, parsed_certificate
from attest.evidence.intel_json import parse_qe_identity, parse_tcb_info
from attest.evidence.quote import nested_material, parse_quote
from attest.verifier.quote import QuoteVerifier
from tests.fakes.intel_pki import NOW, FakeIntelPki

ROUNDS = 7
WINDOW = 0.3
QUOTES = 64
Call = Callable[[], object]


def run() -> list[dict[str, Any]]:
    """Rows for the table; none where the peer is not installed."""
    try:
        import dcap_qvl
    except ImportError:
        sys.stderr.write("quote_peers: dcap-qvl is not installed\n")
        return []
    worlds = [FakeIntelPki(td={"report_data": bytes([n]) * 64}) for n in range(QUOTES)]
    calls = {"cached": _cached(worlds), "new": _new(worlds[0]), "peer": _peer(dcap_qvl, worlds[0])}
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            found[name].append(_seconds(call))
    peer = f"dcap-qvl {dcap_qvl.__version__}"
    return [
        _row(f"TDX quote to verdict, platform and collateral known / {peer}", found, "cached", 1 / 8),
        _row(f"TDX quote to verdict, nothing known / {peer}", found, "new", 1 / 0.4),
    ]


def _cached(worlds: list[FakeIntelPki]) -> Call:
    """One verifier, one collateral, quotes that differ in report data and signature."""
    verifier, pool = QuoteVerifier(worlds[0].anchors), worlds[0].collateral
    quotes = [world.raw for world in worlds]
    turn = 0

    def once() -> object:
        nonlocal turn
        turn = (turn + 1) % len(quotes)
        return verifier.verify(parse_quote(quotes[turn]), pool, now=NOW, expected_report_data=bytes([turn]) * 64)

    return once


def _new(world: FakeIntelPki) -> Call:
    raw, root, lists = world.raw, world.root_der, world.crl_ders
    certificates = (*world.issuer_chain, world.issued(world.ca).der)
    info, identity, anchors = world.tcb_info_json, world.qe_identity_json, IntelAnchors.test_only(root)

    def once() -> object:
        parsed_certificate.cache_clear()
        nested_material.cache_clear()
        pool = IntelCollateral.of(
            map(IntelCertificate.parse, certificates),
            map(IntelCrl.parse, lists),
            [parse_tcb_info(info)],
            [parse_qe_identity(identity)],
        )
        return QuoteVerifier(anchors).verify(parse_quote(raw), pool, now=NOW, expected_report_data=bytes(64))

    return once


def _peer(module: Any, world: FakeIntelPki) -> Call:
    (info,), (identity,) = world.collateral.tcb_infos, world.collateral.qe_identities
    signers = _pem(*world.issuer_chain)
    collateral = module.QuoteCollateralV3(
        pck_crl_issuer_chain=_pem(world.issued(world.ca).der, world.root_der),
        root_ca_crl=world.crl("ROOT"),
        pck_crl=world.crl(world.ca),
        tcb_info_issuer_chain=signers,
        tcb_info=info.signed.decode(),
        tcb_info_signature=info.signature,
        qe_identity_issuer_chain=signers,
        qe_identity=identity.signed.decode(),
        qe_identity_signature=identity.signature,
    )
    raw, root, now = world.raw, world.root_der, int(NOW.timestamp())
    return lambda: module.verify_with_root_ca(raw, collateral, root, now)


def _pem(*certificates: bytes) -> str:
    texts = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in certificates]
    return b"".join(texts).decode("ascii")


def _seconds(call: Call) -> float:
    call()
    count, start = 0, time.process_time()
    while (spent := time.process_time() - start) < WINDOW:
        call()
        count += 1
    return spent / count


def _row(name: str, seconds: dict[str, list[float]], key: str, target: float) -> dict[str, Any]:
    mine, theirs = statistics.median(seconds[key]), statistics.median(seconds["peer"])
    ratio = statistics.median(a / b for a, b in zip(seconds[key], seconds["peer"], strict=True))
    return {
        "name": name,
        "ours": f"{mine * 1e6:.0f} us",
        "peer": f"{theirs * 1e6:.0f} us",
        "ratio": f"{ratio:.3f}",
        "target": f"<= {target:.3f}",
        "met": ratio <= target,
        "detail": f"{1 / mine:.0f} against {1 / theirs:.0f} per CPU-second; {ROUNDS} interleaved rounds, medians",
    }
