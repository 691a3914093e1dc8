"""Every quote of the manifest, with its dated collateral, has the outcome that the manifest states."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from attest.endorsement.intel import IntelAnchors
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.intel_certificate import IntelCertificate, IntelCrl
from attest.evidence.intel_json import parse_qe_identity, parse_tcb_info
from attest.evidence.pem import parse_pem
from attest.evidence.quote import parse_quote
from attest.verifier.quote import QuoteVerifier
from policy.claims import TcbClaims, VerifiedClaims
from policy.errors import CvmError
from policy.vocab import Platform

CHAINS = ("tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain")
DECIDED = {
    # What a manifest leaves to the policy of a verifier: True where ours takes it.
    "v5-current-revoked": False, "v4-sgx-body": True, "qe-reportdata-tail": False, "auth-data-empty": True,
    "chain-reversed": True, "chain-extra-cert": False, "early-number-low": True,
    # Genuine, and refused by every shipped policy: appraisal, not verification.
    "td-debug": True, "td-attr-tud-reserved": True, "td-sept-ve-clear": True, "td-servicetd": True,
    "td-xfam-no-sse": True,
    # A list that is stale, or that its CA did not sign, is no list: the claim `revocation` says so.
    "pck-crl-expired": True, "pck-crl-wrong-key": True,
}  # fmt: skip
WITHOUT_A_LIST = {"pck-crl-expired": "stale", "pck-crl-wrong-key": "not-checked"}


def entries(vectors: Path, kind: str) -> Iterator[dict[str, Any]]:
    manifest = json.loads((vectors / "tdx" / "manifest.json").read_text())
    return (entry for entry in manifest["entries"] if entry["kind"] == kind)


def collateral(vectors: Path, files: Mapping[str, str]) -> IntelCollateral:
    """The set that a case names."""
    data = {name: (vectors / "tdx" / file).read_bytes() for name, file in files.items()}
    chains = [block.data for name in CHAINS if name in data for block in parse_pem(data[name])]
    return IntelCollateral.of(
        [IntelCertificate.parse(der) for der in chains],
        [IntelCrl.parse(data["pck_crl"]), IntelCrl.parse(data["root_ca_crl"])],
        [parse_tcb_info(data["tcb_info"])],
        [parse_qe_identity(data["qe_identity"])],
    )


def verify(vectors: Path, file: str, case: Mapping[str, Any], anchors: IntelAnchors) -> VerifiedClaims:
    quote = parse_quote((vectors / "tdx" / file).read_bytes())
    pool = collateral(vectors, case["collateral"])
    return QuoteVerifier(anchors).verify(
        quote, pool, now=datetime.fromisoformat(case["now"]), expected_report_data=None
    )


def tcb_of(claims: VerifiedClaims) -> TcbClaims:
    tcb = getattr(claims.tee, "tcb", None)
    assert isinstance(tcb, TcbClaims)
    return tcb


def test_every_real_quote_has_its_stated_outcome(vectors: Path) -> None:
    seen: Counter[str] = Counter()
    for entry in entries(vectors, "quote"):
        for case in entry.get("cases", ()):
            expected = case["expected"]
            if expected["result"].startswith("reject"):
                with pytest.raises(CvmError):
                    verify(vectors, entry["file"], case, IntelAnchors.intel())
                seen["refused"] += 1
                continue
            claims = verify(vectors, entry["file"], case, IntelAnchors.intel())
            tcb = tcb_of(claims)
            assert claims.platform in (Platform.TDX, Platform.SGX)
            assert claims.revocation == "good"
            assert tcb.status.value == expected["tcb_status"], entry["file"]
            assert tcb.qe.value == expected["qe_status"]
            assert list(tcb.advisory_ids) == sorted(expected["advisory_ids"])
            assert (tcb.module and tcb.module.value) == expected.get("tdx_module_status")
            if tcb.running is not None:
                assert tcb.running.value == expected.get("current_status", expected["tcb_status"])
            else:
                assert tcb.platform.value == expected["platform_status"]
            seen[tcb.status.value] += 1
    assert seen.total() >= 40
    assert seen["TDRelaunchAdvised"] >= 1
    assert seen["refused"] >= 10


INTEL_SAMPLE = {
    "pck_chain": "pckSignChain.pem", "pck": "pckCert.pem", "tcb_chain": "tcbSignChain.pem",
    "pck_crl": "intermediateCaCrl.der", "root_ca_crl": "rootCaCrl.der", "tcb_info": "tcbInfo.json",
    "qe_identity": "qeIdentity.json",
}  # fmt: skip


def test_intels_sample_quote_names_a_key_whose_certificate_is_at_hand(vectors: Path) -> None:
    """Certification data of type 1: the quote holds no certificate. The root is Intel's sample, not its production."""
    (entry,) = entries(vectors, "quote_other_root")
    folder = Path(entry["file"]).parent
    quote = parse_quote((vectors / "tdx" / entry["file"]).read_bytes())
    data = {name: (vectors / "tdx" / folder / file).read_bytes() for name, file in INTEL_SAMPLE.items()}
    (root,) = parse_pem((vectors / "tdx" / folder / "trustedRootCaCert.pem").read_bytes())

    def claims(anchors: IntelAnchors, *chains: str) -> VerifiedClaims:
        pool = IntelCollateral.of(
            [IntelCertificate.parse(block.data) for name in chains for block in parse_pem(data[name])],
            [IntelCrl.parse(data["pck_crl"]), IntelCrl.parse(data["root_ca_crl"])],
            [parse_tcb_info(data["tcb_info"])],
            [parse_qe_identity(data["qe_identity"])],
        )
        now = datetime.fromisoformat("2019-11-01T00:00:00+00:00")
        return QuoteVerifier(anchors).verify(quote, pool, now=now, expected_report_data=None)

    sample = IntelAnchors.test_only(root.data)
    found = claims(sample, "pck_chain", "pck", "tcb_chain")
    assert (found.platform, tcb_of(found).status.value, found.revocation) == (Platform.EMULATED_SGX, "UpToDate", "good")
    for anchors, chains in (
        (sample, ("pck_chain", "tcb_chain")),
        (IntelAnchors.intel(), ("pck_chain", "pck", "tcb_chain")),
    ):
        with pytest.raises(CvmError):
            claims(anchors, *chains)


def test_altered_quotes_are_refused(vectors: Path) -> None:
    count = 0
    for entry in entries(vectors, "quote_altered"):
        if "case" not in entry:
            with pytest.raises(CvmError):
                parse_quote((vectors / "tdx" / entry["file"]).read_bytes())
        elif entry["expected"]["result"] == "accept":
            verify(vectors, entry["file"], entry["case"], IntelAnchors.intel())
        else:  # bytes behind a quote that are not zero are refused too, which the manifest leaves to us
            with pytest.raises(CvmError):
                verify(vectors, entry["file"], entry["case"], IntelAnchors.intel())
        count += 1
    assert count >= 50


def test_synthetic_platforms_have_their_stated_outcome_and_none_under_intels_root(vectors: Path) -> None:
    (block,) = parse_pem((vectors / "tdx" / "synthetic" / "root.pem").read_bytes())
    anchors = IntelAnchors.test_only(block.data)
    count = 0
    for entry in entries(vectors, "synthetic_case"):
        name, expected = entry["name"], entry["expected"]
        with pytest.raises(CvmError):
            verify(vectors, entry["file"], entry, IntelAnchors.intel())
        if not DECIDED.get(name, expected["result"] == "verified"):
            with pytest.raises(CvmError):
                verify(vectors, entry["file"], entry, anchors)
        else:
            claims = verify(vectors, entry["file"], entry, anchors)
            assert tcb_of(claims).status.value == expected.get("tcb_status", "UpToDate"), name
            assert claims.revocation == WITHOUT_A_LIST.get(name, "good")
            assert claims.emulated
        count += 1
    assert count >= 50


def test_a_quote_under_another_root_of_the_same_name_is_refused(vectors: Path) -> None:
    files = [e["file"] for e in entries(vectors, "quote") if e.get("outcome", {}).get("root") != "intel-sgx-root-key"]
    assert files
    for file in files:
        with pytest.raises(CvmError) as caught:
            quote = parse_quote((vectors / "tdx" / file).read_bytes())
            QuoteVerifier(IntelAnchors.intel()).verify(
                quote, IntelCollateral(), now=datetime.fromisoformat("2026-06-01T00:00:00+00:00"),
                expected_report_data=None,
            )  # fmt: skip
        assert caught.value.code == "verification.root", file
