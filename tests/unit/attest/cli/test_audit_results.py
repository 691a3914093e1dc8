"""What ``attest audit verify`` says of one proof: which measurement got the key, where, at which level, by which policy."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest.broker.log import LogSigner, checkpoint
from attest.broker.proof_file import Proven, check_proof_file
from attest.broker.proof_file_make import make_proof_file
from attest.cli.audit_results import of_record
from attest.keys.log_key import LogKey
from tests.fakes.kbs_client import KbsError
from tests.fakes.service_world import GOOD, PATH, ServiceWorld

KEY = LogKey("kbs.example/audit", Ed25519PrivateKey.from_private_bytes(b"\5" * 32))


@pytest.fixture
def proven(tmp_path: Path) -> dict[str, Proven]:
    """The proofs of a release, its decision, and evidence that is not genuine, by outcome."""
    world = ServiceWorld(tmp_path / "service")
    world.client().resource(PATH)
    with pytest.raises(KbsError):
        world.client(vmpl=0xFFFFFFFF).handshake()
    note = checkpoint(world.database, LogSigner(KEY, tmp_path / "log.seen"), world.now)
    return {
        entry["outcome"]: check_proof_file(make_proof_file(world.database, entry["number"], note), KEY.verifier)
        for entry in world.records()
    }


def test_of_a_release_the_decision_is_told(proven: dict[str, Proven]) -> None:
    release = proven["released"]
    text = "\n".join(of_record("p", release, whole=False).lines)
    assert f"rests on decision {release.record['body']['decision']} of " in text
    assert f"measurement {GOOD.hex()}, reference values web-1" in text
    assert f"chip {release.record['body']['chip']}, emulated-snp" in text
    assert "microcode" in text
    assert f"policy demo, SHA-256 {(release.decision or {})['body']['rules']['policy']}" in text
    assert (of_record("p", release, whole=True).found or {})["decision"] == release.decision


def test_of_a_decision_alone_it_is_told_too_and_of_many_it_is_left_out(proven: dict[str, Proven]) -> None:
    decision = proven["affirming"]
    assert "policy demo" in of_record("p", decision, whole=False, alone=True).lines[-1]
    assert len(of_record("p", decision, whole=False).lines) == 2


def test_what_is_not_genuine_was_not_judged(proven: dict[str, Proven]) -> None:
    lines = of_record("p", proven["not-genuine"], whole=False, alone=True).lines
    assert len(lines) == 2
    assert "made again" in lines[1]
