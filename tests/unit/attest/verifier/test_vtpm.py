"""Azure vTPM evidence: one broken knob at a time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attest.endorsement.errors import VerificationFailed
from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.recognise import parse_snp_evidence
from attest.verifier.vtpm import verify_hcl_nonce, verify_vtpm
from tests.fakes.azure import FakeAzure

OTHER = tuple(bytes([99]) * 32 for _ in range(24))


def check(azure: FakeAzure, challenge: bytes | None = b"challenge") -> None:
    evidence = parse_snp_evidence(json.dumps(azure.evidence).encode())
    assert evidence.kind == "azure-vtpm"
    assert evidence.vtpm is not None
    azure.world.verify(expected_report_data=evidence.vtpm.hcl.expected_report_data)
    verify_vtpm(evidence.vtpm, expected_challenge=challenge)


@pytest.mark.parametrize("version", [1, 2])
def test_the_unbroken_evidence_is_genuine_and_fresh(version: int) -> None:
    check(FakeAzure(version=version))


def test_without_an_expected_challenge_freshness_is_not_judged() -> None:
    check(FakeAzure(challenge=b"another", user_data=""), None)


@pytest.mark.parametrize(
    ("azure", "step"),
    [
        (FakeAzure(signer="somebody"), "signature"), (FakeAzure(quoted_pcrs=OTHER), "signature"),
        (FakeAzure(pcrs=OTHER), "signature"), (FakeAzure(challenge=b"another"), "binding"),
        (FakeAzure(user_data="00" * 64), "binding"), (FakeAzure(user_data=b"challeng".hex()), "binding"),
    ],
)  # fmt: skip
def test_one_broken_knob_fails_in_its_step(azure: FakeAzure, step: str) -> None:
    with pytest.raises(VerificationFailed) as caught:
        check(azure)
    assert caught.value.step == step


KEY: dict[str, Any] = {"kid": "HCLAkPub", "kty": "RSA", "e": "AQAB", "n": "AQ"}


@pytest.mark.parametrize(
    "azure",
    [
        FakeAzure(magic=0), FakeAzure(kind=0x8019), FakeAzure(bank=0x000C), FakeAzure(selection=b"\xff\xff\x00"),
        FakeAzure(selection=b"\xff\xff"), FakeAzure(keys=[]), FakeAzure(keys=[KEY, KEY]), FakeAzure(keys=[KEY]),
        FakeAzure(keys=[KEY | {"n": "!"}]), FakeAzure(keys=[KEY | {"kty": "EC"}]), FakeAzure(pcrs=OTHER[:23]),
        FakeAzure(pcrs=tuple(pcr[:31] for pcr in OTHER)), FakeAzure(changes={"vcek": 5}),
        FakeAzure(changes={"hcl_report": "!"}), FakeAzure(changes={"tpm_quote": []}), FakeAzure(challenge=b"x" * 69),
    ],
)  # fmt: skip
def test_evidence_of_the_wrong_shape_is_malformed(azure: FakeAzure) -> None:
    with pytest.raises(EvidenceMalformed):
        check(azure)


def test_an_unknown_version_is_unsupported() -> None:
    with pytest.raises(EvidenceUnsupported):
        check(FakeAzure(version=3))


def test_a_blob_alone_is_fresh_by_its_user_data() -> None:
    evidence = parse_snp_evidence(FakeAzure().blob)
    assert evidence.hcl is not None
    verify_hcl_nonce(evidence.hcl, b"challenge")
    with pytest.raises(VerificationFailed):
        verify_hcl_nonce(evidence.hcl, b"another")
