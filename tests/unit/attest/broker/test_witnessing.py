"""A log and its witness: what is cosigned, what is refused, and what the log's owner is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest.audit.checkpoint import Checkpoint, checkpoint_of
from attest.audit.note import Note, sign, verify_note
from attest.audit.witness import SIZE_TYPE, AddCheckpoint, judge, parse_add_checkpoint
from attest.broker.log import LogSigner, checkpoint
from attest.broker.witnessing import Witness, cosign_checkpoint
from attest.keys.log_key import LogKey
from attest.store import checkpoints, tree
from tests.fakes.service_world import ServiceWorld
from tests.fakes.witness import TIME, FakeWitness

KEY = LogKey("kbs.example/audit", Ed25519PrivateKey.from_private_bytes(b"\5" * 32))


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service")


@pytest.fixture
def signer(tmp_path: Path) -> LogSigner:
    return LogSigner(KEY, tmp_path / "log.seen")


@pytest.fixture
def witness() -> Iterator[FakeWitness]:
    witness = FakeWitness({KEY.origin: KEY.verifier})
    yield witness
    witness.close()


def asked(witness: FakeWitness) -> Witness:
    return Witness(witness.url, witness.verifier)


def grow(world: ServiceWorld) -> None:
    world.put(value=b"again", replace=True)


def test_a_growing_log_is_cosigned_each_time(world: ServiceWorld, signer: LogSigner, witness: FakeWitness) -> None:
    for _ in range(4):
        note = checkpoint(world.database, signer, world.now)
        cosigned = cosign_checkpoint(world.database, note, (asked(witness),))
        assert cosigned.missing == {}
        assert [signed.time for signed in verify_note(cosigned.note, [witness.verifier])] == [TIME]
        grow(world)
    with world.database.read() as tx:
        kept = checkpoints.newest(tx)
    assert kept is not None and kept.note == cosigned.note.encode()


def test_a_checkpoint_that_is_cosigned_is_not_sent_again(
    world: ServiceWorld, signer: LogSigner, witness: FakeWitness
) -> None:
    note = cosign_checkpoint(world.database, checkpoint(world.database, signer, world.now), (asked(witness),)).note
    witness.close()
    assert cosign_checkpoint(world.database, note, (asked(witness),)).missing == {}


def test_a_witness_that_is_down_is_named_and_the_log_goes_on(
    world: ServiceWorld, signer: LogSigner, witness: FakeWitness
) -> None:
    other = FakeWitness({KEY.origin: KEY.verifier}, "witness.example/w2")
    where = asked(other)
    other.close()
    cosigned = cosign_checkpoint(world.database, checkpoint(world.database, signer, world.now), (where, asked(witness)))
    assert list(cosigned.missing) == ["witness.example/w2"]
    assert "cannot be reached" in cosigned.missing["witness.example/w2"]
    assert verify_note(cosigned.note, [witness.verifier])


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (Checkpoint(KEY.origin, 999, bytes(32)), "restored backup"),
        (Checkpoint(KEY.origin, 2, bytes(32)), "answered 422"),
    ],
)
def test_a_witness_that_knows_another_history_says_so(
    world: ServiceWorld, signer: LogSigner, witness: FakeWitness, known: Checkpoint, words: str
) -> None:
    witness.known[KEY.origin] = known
    cosigned = cosign_checkpoint(world.database, checkpoint(world.database, signer, world.now), (asked(witness),))
    assert words in cosigned.missing[witness.key.name]
    assert not verify_note(cosigned.note, [witness.verifier])


def test_a_fork_of_equal_size_is_noticed(world: ServiceWorld, signer: LogSigner, witness: FakeWitness) -> None:
    note = checkpoint(world.database, signer, world.now)
    witness.known[KEY.origin] = Checkpoint(KEY.origin, checkpoint_of(note).size, bytes(32))
    missing = cosign_checkpoint(world.database, note, (asked(witness),)).missing
    assert "the history differs" in missing[witness.key.name]


def test_a_lying_witness_is_not_believed(world: ServiceWorld, signer: LogSigner, witness: FakeWitness) -> None:
    stranger = FakeWitness({KEY.origin: KEY.verifier})
    try:
        for lie, words in (
            (lambda answer: replace_body(answer, "— someone.else AAAAAAAA\n"), "without its own"),
            (lambda answer: replace_body(answer, "no signature"), "malformed"),
            (lambda answer: replace_body(answer, answer.body.replace(" ", " A", 2)), ""),
        ):
            witness.lie = lie
            cosigned = cosign_checkpoint(
                world.database, checkpoint(world.database, signer, world.now), (asked(witness),)
            )
            assert words in cosigned.missing[witness.key.name]
            assert not verify_note(cosigned.note, [witness.verifier])
            witness.known.clear()
    finally:
        stranger.close()


def replace_body(answer: object, body: str) -> object:
    return answer._replace(body=body)  # type: ignore[attr-defined]


def request(world: ServiceWorld, signer: LogSigner, old: int = 0, **changes: object) -> AddCheckpoint:
    note = checkpoint(world.database, signer, world.now)
    with world.database.read() as tx:
        path = tuple(tree.consistency(tx, old, checkpoint_of(note).size)) if old else ()
    return AddCheckpoint(old, path, note)._replace(**changes)  # type: ignore[arg-type]


def test_requests_are_answered_as_the_specification_says(
    world: ServiceWorld, signer: LogSigner, witness: FakeWitness
) -> None:
    first = request(world, signer)
    size = checkpoint_of(first.note).size
    stranger = Note(first.note.text, (sign(first.note.text, KEY.origin, Ed25519PrivateKey.generate()),))
    other = Checkpoint("other/log", 1, bytes(32)).text
    cases = [
        (b"nonsense", 400), (first._replace(old=size + 1).encode(), 400), (first._replace(note=stranger).encode(), 403),
        (AddCheckpoint(0, (), Note(other, (sign(other, "other/log", KEY.private),))).encode(), 404),
        (first._replace(path=(bytes(32),)).encode(), 422), (first._replace(old=1).encode(), 409),
    ]  # fmt: skip
    for body, status in cases:
        answer = judge(body, witness.logs, {}, witness.key, TIME)
        assert (answer.status, answer.remember) == (status, None), body[:40]
    assert judge(first.encode(), witness.logs, {}, witness.key, TIME).status == 200
    known = {KEY.origin: checkpoint_of(first.note)}
    conflict = judge(first.encode(), witness.logs, known, witness.key, TIME)
    assert (conflict.status, conflict.body, conflict.content_type) == (409, f"{size}\n", SIZE_TYPE)
    grow(world)
    later = request(world, signer, size)
    assert judge(later.encode(), witness.logs, known, witness.key, TIME).status == 200
    wrong = later._replace(path=(*later.path[:-1], bytes(32)))
    assert judge(wrong.encode(), witness.logs, known, witness.key, TIME).status == 422


def test_a_request_comes_back(world: ServiceWorld, signer: LogSigner) -> None:
    found = request(world, signer, 2)
    assert parse_add_checkpoint(found.encode()) == found


def test_a_key_of_another_witness_does_not_count(world: ServiceWorld, signer: LogSigner, witness: FakeWitness) -> None:
    wrong = replace(asked(witness), key=FakeWitness({}).verifier)
    missing = cosign_checkpoint(world.database, checkpoint(world.database, signer, world.now), (wrong,)).missing
    assert missing
