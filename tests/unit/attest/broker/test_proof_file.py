"""A stranger with the log's public key checks one record, offline; every part that is changed is noticed."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from attest.audit import verify_proof
from attest.audit.checkpoint import Checkpoint, checkpoint_of
from attest.audit.errors import AuditBroken, NoteMalformed, ProofInvalid
from attest.audit.note import COSIGNATURE, cosign, sign, verifier_of, verify_note
from attest.broker.log import LogSigner, checkpoint
from attest.broker.proof_file import ProofFile, check_proof_file, parse_proof_file
from attest.broker.proof_file_make import make_proof_file
from attest.broker.proof_rests import check_rests
from attest.keys.log_key import LogKey
from attest.store import records
from attest.store.errors import NotFound
from policy.errors import CvmError
from tests.fakes.kbs_client import KbsError
from tests.fakes.service_world import OTHER, PATH, ServiceWorld, demo_policy

ORIGIN = "kbs.example/audit"
KEY = LogKey(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"\5" * 32))
WITNESS = Ed25519PrivateKey.from_private_bytes(b"\6" * 32)
WITNESS_KEY = verifier_of("witness.example/w1", WITNESS, COSIGNATURE)


@pytest.fixture
def world(tmp_path: Path, store: str | None) -> ServiceWorld:
    """An accepted guest that got its key, and a refused one."""
    world = ServiceWorld(tmp_path / "service", store)
    world.client().resource(PATH)
    with pytest.raises(KbsError):
        world.client(measurement=OTHER).handshake()
    return world


@pytest.fixture
def signer(tmp_path: Path) -> LogSigner:
    return LogSigner(KEY, tmp_path / "log.seen")


def number_of(world: ServiceWorld, kind: str, outcome: str) -> int:
    return next(entry["number"] for entry in world.records(kind) if entry["outcome"] == outcome)


def file_of(world: ServiceWorld, signer: LogSigner, number: int) -> ProofFile:
    note = checkpoint(world.database, signer, world.now)
    return parse_proof_file(make_proof_file(world.database, number, note).encode())


@pytest.mark.parametrize("outcome", ["affirming", "contraindicated"])
def test_a_decision_is_proven_and_made_again(world: ServiceWorld, signer: LogSigner, outcome: str) -> None:
    number = number_of(world, "decision", outcome)
    proven = check_proof_file(file_of(world, signer, number), KEY.verifier)
    assert (proven.record["outcome"], proven.repeated) == (outcome, True)
    assert proven.record["body"]["emulated"] is True
    assert proven.checkpoint.origin == ORIGIN


def test_every_record_of_a_log_is_proven(world: ServiceWorld, signer: LogSigner) -> None:
    for entry in world.records():
        proven = check_proof_file(file_of(world, signer, entry["number"]), KEY.verifier)
        assert proven.record["kind"] == entry["kind"]


def test_a_proof_stays_good_when_the_log_has_grown(world: ServiceWorld, signer: LogSigner) -> None:
    file = file_of(world, signer, 1)
    world.put(value=b"another", replace=True)
    assert check_proof_file(file, KEY.verifier).record["seq"] == 1


def edited(file: ProofFile, edit: Callable[[dict[str, Any]], None]) -> bytes:
    document = json.loads(file.encode())
    edit(document)
    return json.dumps(document).encode()


def change_record(document: dict[str, Any]) -> None:
    document["record"] = document["record"].replace('"affirming"', '"contraindicated"', 1)


def change_number(document: dict[str, Any]) -> None:
    document["proof"] = document["proof"].replace("index ", "index 1", 1)


def change_root(document: dict[str, Any]) -> None:
    lines = document["proof"].split("\n")
    at = lines.index(ORIGIN) + 2
    lines[at] = base64.b64encode(bytes(32)).decode()
    document["proof"] = "\n".join(lines)


def change_signature(document: dict[str, Any]) -> None:
    head, _, text = document["proof"].rpartition(" ")
    raw = bytearray(base64.b64decode(text.strip()))
    raw[-1] ^= 1
    document["proof"] = f"{head} {base64.b64encode(raw).decode()}\n"


def change_blob(document: dict[str, Any]) -> None:
    name = next(iter(document["blobs"]))
    document["blobs"][name] = base64.b64encode(b"other bytes").decode()


def drop_blob(document: dict[str, Any]) -> None:
    document["blobs"].pop(next(iter(document["blobs"])))


def add_member(document: dict[str, Any]) -> None:
    document["more"] = 1


def change_schema(document: dict[str, Any]) -> None:
    document["schema"] = "attest.audit.proof/2"


def blob_of_wrong_type(document: dict[str, Any]) -> None:
    document["blobs"] = {"00": 7}


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (change_record, ProofInvalid), (change_number, CvmError), (change_root, ProofInvalid),
        (change_signature, ProofInvalid), (change_blob, NoteMalformed), (drop_blob, AuditBroken),
        (add_member, NoteMalformed), (change_schema, NoteMalformed), (blob_of_wrong_type, NoteMalformed),
    ],
)  # fmt: skip
def test_a_changed_part_is_noticed(
    world: ServiceWorld, signer: LogSigner, edit: Callable[[dict[str, Any]], None], error: type[Exception]
) -> None:
    file = file_of(world, signer, number_of(world, "decision", "affirming"))
    with pytest.raises(error):
        check_proof_file(parse_proof_file(edited(file, edit)), KEY.verifier)


def test_a_release_is_proven_with_the_decision_it_rests_on(world: ServiceWorld, signer: LogSigner) -> None:
    file = file_of(world, signer, number_of(world, "release", "released"))
    proven = check_proof_file(file, KEY.verifier)
    assert (proven.record["kind"], proven.repeated) == ("release", False)
    decision = proven.decision
    assert decision is not None
    assert (decision["seq"], decision["outcome"]) == (proven.record["body"]["decision"], "affirming")
    assert decision["body"]["claims"]["chip_id"] == proven.record["body"]["chip"]
    world.policy(demo_policy().replace(b'debug = "forbid"', b'debug = "allow"', 1))
    assert check_proof_file(file, KEY.verifier).decision == decision  # by the policy of that time
    assert verify_proof.check(file.encode(), KEY.verifier.vkey, []) == [proven.record, decision]


def other_decision(document: dict[str, Any], other: ProofFile) -> None:
    """One that the log holds, and that was made again: of another guest."""
    record, proof = other.entry.texts()
    document["decision"] = {"record": record, "proof": proof}
    document["blobs"] = json.loads(other.encode())["blobs"]


def release_as_decision(document: dict[str, Any], _: ProofFile) -> None:
    document["decision"] = {name: document[name] for name in ("record", "proof")}


def changed_decision(document: dict[str, Any], _: ProofFile) -> None:
    change_record(document["decision"])


def decision_without_its_evidence(document: dict[str, Any], _: ProofFile) -> None:
    drop_blob(document)


def decision_with_a_member_more(document: dict[str, Any], _: ProofFile) -> None:
    document["decision"]["more"] = 1


def decision_that_is_text(document: dict[str, Any], _: ProofFile) -> None:
    document["decision"] = "120"


@pytest.mark.parametrize(
    ("edit", "error", "words"),
    [
        (other_decision, AuditBroken, "decision: states"), (release_as_decision, AuditBroken, "not a decision"),
        (changed_decision, ProofInvalid, "not in the tree"), (decision_without_its_evidence, AuditBroken, "gone"),
        (decision_with_a_member_more, NoteMalformed, "want record and proof"),
        (decision_that_is_text, NoteMalformed, "want record and proof"),
    ],
)  # fmt: skip
def test_a_release_with_another_decision_proves_nothing(
    world: ServiceWorld,
    signer: LogSigner,
    edit: Callable[[dict[str, Any], ProofFile], None],
    error: type[Exception],
    words: str,
) -> None:
    other = file_of(world, signer, number_of(world, "decision", "contraindicated"))
    file = file_of(world, signer, number_of(world, "release", "released"))
    data = edited(file, lambda document: edit(document, other))
    with pytest.raises(error, match=words):
        check_proof_file(parse_proof_file(data), KEY.verifier)
    if edit in (other_decision, release_as_decision, changed_decision):  # what it does without judging evidence
        with pytest.raises(verify_proof.Refused):
            verify_proof.check(data, KEY.verifier.vkey, [])


def test_a_decision_under_another_checkpoint_proves_nothing(world: ServiceWorld, signer: LogSigner) -> None:
    number = number_of(world, "release", "released")
    older = file_of(world, signer, number)
    world.put(value=b"another", replace=True)
    newer = file_of(world, signer, number)
    with pytest.raises(ProofInvalid, match="another checkpoint"):
        check_proof_file(replace(newer, decision=older.decision), KEY.verifier)


@pytest.mark.parametrize("member", ["token_id", "emulated", "chip", "measurement", "tee_pubkey", "decision"])
def test_a_release_that_disagrees_with_its_decision_is_named(
    world: ServiceWorld, signer: LogSigner, member: str
) -> None:
    """As a log would have it that was signed by whoever wrote its records."""
    proven = check_proof_file(file_of(world, signer, number_of(world, "release", "released")), KEY.verifier)
    assert proven.decision is not None
    release = json.loads(json.dumps(proven.record))
    check_rests(release, proven.decision)
    release["body"][member] = "other"
    with pytest.raises(AuditBroken, match=f"{member}: states"):
        check_rests(release, proven.decision)


def test_a_refused_decision_releases_nothing(world: ServiceWorld, signer: LogSigner) -> None:
    proven = check_proof_file(file_of(world, signer, number_of(world, "release", "released")), KEY.verifier)
    with pytest.raises(AuditBroken, match="outcome of the decision"):
        check_rests(proven.record, {**(proven.decision or {}), "outcome": "contraindicated"})


def test_another_log_s_key_proves_nothing(world: ServiceWorld, signer: LogSigner) -> None:
    file = file_of(world, signer, 1)
    other = LogKey(ORIGIN, Ed25519PrivateKey.generate()).verifier
    with pytest.raises(ProofInvalid, match="not signed by the key"):
        check_proof_file(file, other)
    with pytest.raises(ProofInvalid, match="the key is that of"):
        check_proof_file(file, KEY._replace(origin="elsewhere/audit").verifier)


def test_evidence_swapped_for_other_genuine_evidence_is_noticed(world: ServiceWorld, signer: LogSigner) -> None:
    """The record names its blobs by digest, so another report under the same name is another digest."""
    file = file_of(world, signer, number_of(world, "decision", "affirming"))
    other = file_of(world, signer, number_of(world, "decision", "contraindicated"))
    swapped = ProofFile(file.entry, other.blobs)
    with pytest.raises(AuditBroken, match="are gone"):
        check_proof_file(swapped, KEY.verifier)


def test_as_many_witnesses_as_asked_for_must_have_seen_the_checkpoint(world: ServiceWorld, signer: LogSigner) -> None:
    file = file_of(world, signer, 1)
    text = file.entry.proof.note.text
    cosigned = file.entry.proof.note._replace(
        signatures=(*file.entry.proof.note.signatures, cosign(text, WITNESS_KEY.name, WITNESS, 1_800_000_000))
    )
    seen = ProofFile(file.entry._replace(proof=file.entry.proof._replace(note=cosigned)), file.blobs)
    assert check_proof_file(seen, KEY.verifier, witnesses=[WITNESS_KEY], quorum=1).witnesses == (WITNESS_KEY.name,)
    with pytest.raises(ProofInvalid, match="0 of the known witnesses"):
        check_proof_file(file, KEY.verifier, witnesses=[WITNESS_KEY], quorum=1)
    with pytest.raises(ProofInvalid, match="0 of the known witnesses"):
        check_proof_file(seen, KEY.verifier, quorum=1)  # a witness nobody named is nobody


def test_a_record_that_is_not_there_has_no_proof(world: ServiceWorld, signer: LogSigner) -> None:
    note = checkpoint(world.database, signer, world.now)
    for number in (0, 999):
        with pytest.raises(NotFound):
            make_proof_file(world.database, number, note)


def test_a_checkpoint_is_signed_once_for_one_size_and_covers_the_log(world: ServiceWorld, signer: LogSigner) -> None:
    first = checkpoint(world.database, signer, world.now)
    assert checkpoint(world.database, signer, world.now) == first
    assert verify_note(first, [KEY.verifier])
    world.put(value=b"another", replace=True)
    second = checkpoint(world.database, signer, world.now)
    assert checkpoint_of(second).size == checkpoint_of(first).size + 1
    assert signer.seen.read_bytes() == second.encode()


def test_a_database_restored_from_an_older_backup_is_noticed(world: ServiceWorld, signer: LogSigner) -> None:
    checkpoint(world.database, signer, world.now)
    newest = checkpoint_of(checkpoint(world.database, signer, world.now))
    ahead = Checkpoint(ORIGIN, newest.size + 3, bytes(32))
    signer.seen.write_bytes(newest_note(ahead))
    with pytest.raises(AuditBroken, match="records, the database") as noticed:
        checkpoint(world.database, signer, world.now)
    assert "backup" in str(noticed.value.hint)


def test_a_history_that_was_rewritten_is_not_signed(world: ServiceWorld, signer: LogSigner) -> None:
    point = checkpoint_of(checkpoint(world.database, signer, world.now))
    signer.seen.write_bytes(newest_note(Checkpoint(ORIGIN, point.size, bytes(32))))
    with pytest.raises(ProofInvalid):
        checkpoint(world.database, signer, world.now)


def test_what_another_log_signed_last_is_refused(world: ServiceWorld, signer: LogSigner) -> None:
    signer.seen.write_bytes(newest_note(Checkpoint("other/audit", 1, bytes(32)), "other/audit"))
    with pytest.raises(AuditBroken, match="another log"):
        checkpoint(world.database, signer, world.now)


def newest_note(point: Checkpoint, name: str = ORIGIN) -> bytes:
    from attest.audit.note import Note

    return Note(point.text, (sign(point.text, name, KEY.private),)).encode()


def test_the_file_names_every_blob_by_its_digest(world: ServiceWorld, signer: LogSigner) -> None:
    file = file_of(world, signer, number_of(world, "decision", "affirming"))
    assert all(hashlib.sha256(data).digest() == digest for digest, data in file.blobs.items())
    with world.database.read() as tx:
        assert records.get(tx, file.entry.proof.entry + 1) is not None


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_bytes_that_are_no_proof_file_raise_our_error_only(data: bytes) -> None:
    with pytest.raises(NoteMalformed):
        parse_proof_file(data)
