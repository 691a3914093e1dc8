"""An auditor notices every change of the records and of the bytes they name."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest

from attest.audit.canonical import canonical
from attest.audit.errors import AuditBroken
from attest.broker.errors import RequestMalformed
from attest.broker.verify_trail import parse_head, verify_trail
from policy.strictjson import strict_json
from tests.fakes.kbs_client import KbsError
from tests.fakes.service_world import GOOD, OTHER, PATH, ServiceWorld


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    """A released key, a denied guest, unreadable evidence."""
    world = ServiceWorld(tmp_path / "service")
    world.client().resource(PATH)
    with pytest.raises(KbsError):
        world.client(measurement=OTHER).handshake()
    client = world.client()
    client.auth()
    body = client.evidence()
    body["tee-evidence"]["primary_evidence"] = {}
    with pytest.raises(KbsError):
        client.attest(body)
    return world


def change(world: ServiceWorld, statement: str, *values: object) -> None:
    world.database.close()
    with sqlite3.connect(world.database.path) as connection:
        connection.execute(statement, values)


def test_an_untouched_trail_verifies_and_its_decisions_repeat(world: ServiceWorld) -> None:
    checked = verify_trail(world.database)
    assert (checked.records, checked.repeated, checked.unrepeatable) == (7, 2, 1)


def test_a_removed_record_is_noticed(world: ServiceWorld) -> None:
    change(world, "PRAGMA foreign_keys = OFF")
    change(world, "DELETE FROM audit WHERE seq = 5")
    with pytest.raises(AuditBroken, match="record 5 was removed"):
        verify_trail(world.database)


def test_a_removed_record_is_noticed_even_if_the_rest_is_renumbered(world: ServiceWorld) -> None:
    change(world, "DELETE FROM audit WHERE seq = 2")
    for seq in range(3, 8):
        change(world, "UPDATE audit SET seq = seq - 1 WHERE seq = ?", seq)
    with pytest.raises(AuditBroken, match="audit record 2: states number 3"):
        verify_trail(world.database)


def test_an_altered_record_is_noticed(world: ServiceWorld) -> None:
    change(world, "UPDATE audit SET record = replace(record, 'affirming', 'affirmiNg') WHERE seq = 4")
    with pytest.raises(AuditBroken, match="audit record 4: digest is"):
        verify_trail(world.database)


def rewrite(world: ServiceWorld, seq: int, old: bytes, new: bytes) -> None:
    with world.database.read() as tx:
        record = tx.exec_driver_sql(f"SELECT record FROM audit WHERE seq = {seq}").scalar_one()
    assert old in record
    forged = record.replace(old, new)
    change(world, "UPDATE audit SET record = ?, sha256 = ? WHERE seq = ?", forged, hashlib.sha256(forged).digest(), seq)


def test_an_altered_record_with_a_matching_digest_breaks_the_next(world: ServiceWorld) -> None:
    rewrite(world, 3, b'"size":32', b'"size":33')
    with pytest.raises(AuditBroken, match=r"audit record 4: names .* as the digest of record 3"):
        verify_trail(world.database)


def test_a_record_that_is_not_canonical_is_refused(world: ServiceWorld) -> None:
    rewrite(world, 1, b'"seq":1', b'"seq": 1')
    with pytest.raises(AuditBroken, match="not in canonical form"):
        verify_trail(world.database)


def test_a_forged_last_decision_does_not_repeat(world: ServiceWorld) -> None:
    rewrite(world, 6, OTHER.hex().encode(), GOOD.hex().encode())
    change(world, "DELETE FROM audit WHERE seq = 7")
    with pytest.raises(AuditBroken, match="audit record 6: claims is another one"):
        verify_trail(world.database)


def test_a_decision_that_was_turned_round_does_not_repeat(world: ServiceWorld) -> None:
    rewrite(world, 6, b'"verdict":"contraindicated"', b'"verdict":"affirming"')
    change(world, "DELETE FROM audit WHERE seq = 7")
    with pytest.raises(AuditBroken, match="audit record 6: decision is another one"):
        verify_trail(world.database)


def test_cut_off_records_are_noticed_with_a_head_noted_before(world: ServiceWorld) -> None:
    noted = verify_trail(world.database).head
    change(world, "DELETE FROM audit WHERE seq = 7")
    assert verify_trail(world.database).records == 6
    with pytest.raises(AuditBroken, match="cut off"):
        verify_trail(world.database, parse_head(str(noted)))


def test_an_older_head_is_still_part_of_a_longer_trail(world: ServiceWorld) -> None:
    noted = verify_trail(world.database).head
    world.put(value=b"more", replace=True)
    assert verify_trail(world.database, noted).records == 8


@pytest.mark.parametrize(
    "statement", ["DELETE FROM blobs WHERE sha256 = ?", "UPDATE blobs SET data = x'00' WHERE sha256 = ?"]
)
def test_evidence_that_is_gone_or_altered_is_noticed(world: ServiceWorld, statement: str) -> None:
    with world.database.read() as tx:
        record = strict_json(tx.exec_driver_sql("SELECT record FROM audit WHERE seq = 4").scalar_one(), "record")
    change(world, statement, bytes.fromhex(record["body"]["evidence"]["report"]))
    with pytest.raises(AuditBroken, match=r"audit record 4: the bytes .* (are gone|were changed)"):
        verify_trail(world.database)


def test_a_record_is_canonical_and_names_its_evidence_policy_and_references(world: ServiceWorld) -> None:
    with world.database.read() as tx:
        raw = tx.exec_driver_sql("SELECT record FROM audit WHERE seq = 4").scalar_one()
    record = strict_json(raw, "record")
    assert canonical(record) == raw
    body = record["body"]
    assert set(body["rules"]) == {"generation", "policy", "references"}
    assert len(body["evidence"]["certificates"]) >= 3
    assert {check["outcome"] for check in body["decision"]["checks"]} == {"pass", "ignored"}


@pytest.mark.parametrize("text", ["", "1", "0:" + "a" * 64, "1:" + "A" * 64, "1:" + "a" * 63])
def test_a_head_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RequestMalformed):
        parse_head(text)
