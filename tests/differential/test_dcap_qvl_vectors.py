"""Every real, altered and synthetic quote beside ``dcap-qvl``: same verdict, status and advisories, or a rule that says why.

The rules are :data:`DIFFERS`; one that is no longer needed fails the test, as a difference without a rule does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from attest.endorsement.intel import IntelAnchors
from attest.evidence.intel_json import parse_qe_identity, parse_tcb_info
from attest.evidence.pem import parse_pem
from policy.errors import CvmError
from tests.unit.attest.verifier.test_real_quotes import entries, tcb_of, verify

dcap_qvl = pytest.importorskip("dcap_qvl", reason="dcap-qvl is not installed")
Verdict = tuple[str, tuple[str, ...]]
REFUSED: Verdict = ("refused", ())
APPRAISAL = "the quote is genuine; debug, service TDs and attributes are a policy's to judge, and ours refuse them"
A_CLAIM = "a missing or stale list is a claim, and policies refuse it"
WE, THEY = "only we refuse", "only the peer refuses"
DIFFERS: Mapping[str, tuple[str, str]] = {
    "tdx4-debug-td": (THEY, APPRAISAL),
    "tdx4-azure-vtpm": (THEY, APPRAISAL),
    "tdx5-alibaba-servicetd": (THEY, APPRAISAL),
    "sgx3-debug-occlum": (THEY, APPRAISAL),
    "td-debug": (THEY, APPRAISAL),
    "td-sept-ve-clear": (THEY, APPRAISAL),
    "td-attr-tud-reserved": (THEY, APPRAISAL),
    "td-servicetd": (THEY, APPRAISAL),
    "pck-crl-wrong-key": (THEY, A_CLAIM),
    "pck-crl-expired": (THEY, A_CLAIM),
    "v4-sgx-body": (THEY, "Intel's library takes an SGX report in version 4"),
    "auth-data-empty": (THEY, "Intel's library takes QE authentication data of any length; all of it is hashed"),
    "chain-reversed": (THEY, "three certificates of three roles need no order"),
    "outer-cd-type-5": (WE, "version 4 and 5 wrap the QE report into certification data of type 6"),
    "trailing-garbage": (WE, "nobody vouches for bytes behind a quote: zeros only"),
    "tcbinfo-signed-by-pck": (WE, "only the TCB signer signs TCB info, whatever else ends in the same root"),
    "qe-reportdata-tail": (WE, "the second half of the QE's report data is zero"),
    "chain-extra-cert": (WE, "nobody knows what a fourth certificate is for"),
}


def every_case(vectors: Path) -> Iterator[tuple[str, str, Mapping[str, Any], bytes | None]]:
    """Name for the rules, file, case and test root of every quote that comes with collateral."""
    (block,) = parse_pem((vectors / "tdx" / "synthetic" / "root.pem").read_bytes())
    for entry in entries(vectors, "quote"):
        yield from ((Path(entry["file"]).stem, entry["file"], case, None) for case in entry.get("cases", ()))
    for entry in entries(vectors, "quote_altered"):
        if "case" in entry:
            yield entry["change"], entry["file"], entry["case"], None
    for entry in entries(vectors, "synthetic_case"):
        yield entry["name"], entry["file"], entry, block.data


def ours(vectors: Path, file: str, case: Mapping[str, Any], root: bytes | None) -> Verdict:
    anchors = IntelAnchors.intel() if root is None else IntelAnchors.test_only(root)
    try:
        tcb = tcb_of(verify(vectors, file, case, anchors))
    except CvmError:
        return REFUSED
    return tcb.status.value, tcb.advisory_ids


def theirs(vectors: Path, file: str, case: Mapping[str, Any], root: bytes | None) -> Verdict:
    """The peer reads the same bytes; its own form of collateral wants texts and signatures apart."""
    data = {name: (vectors / "tdx" / path).read_bytes() for name, path in case["collateral"].items()}
    try:
        info, identity = parse_tcb_info(data["tcb_info"]), parse_qe_identity(data["qe_identity"])
    except CvmError:
        return REFUSED  # nothing to hand over
    signers = data["tcb_info_issuer_chain"]
    collateral = dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=data["pck_crl_issuer_chain"].decode(),
        root_ca_crl=data["root_ca_crl"],
        pck_crl=data["pck_crl"],
        tcb_info_issuer_chain=signers.decode(),
        tcb_info=info.signed.decode(),
        tcb_info_signature=info.signature,
        qe_identity_issuer_chain=data.get("qe_identity_issuer_chain", signers).decode(),
        qe_identity=identity.signed.decode(),
        qe_identity_signature=identity.signature,
    )
    raw, now = (vectors / "tdx" / file).read_bytes(), int(datetime.fromisoformat(case["now"]).timestamp())
    try:
        if root is None:
            found = dcap_qvl.verify(raw, collateral, now)
        else:
            found = dcap_qvl.verify_with_root_ca(raw, collateral, root, now)
    except ValueError:
        return REFUSED
    return found.status, tuple(sorted(found.advisory_ids))


def test_every_vector_has_the_peers_verdict_or_a_rule_that_says_why_not(vectors: Path) -> None:
    count, needed = 0, set()
    for name, file, case, root in every_case(vectors):
        mine, peer = ours(vectors, file, case, root), theirs(vectors, file, case, root)
        count += 1
        if mine == peer:
            continue
        assert name in DIFFERS, (file, case["now"], mine, peer)
        who, _ = DIFFERS[name]
        assert (mine == REFUSED, peer == REFUSED) == (who == WE, who == THEY), (file, mine, peer)
        needed.add(name)
    assert needed == set(DIFFERS)
    assert count >= 150
