"""What auditors ask: every answer follows from the records, and a record or index that was changed is no answer."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from attest.audit.canonical import rfc3339
from attest.audit.errors import AuditBroken
from attest.audit.facts import Facts, facts_of
from attest.audit.record import DECISION, REFERENCE_ADD, RELEASE
from attest.broker import questions
from attest.store import records
from attest.store.records import Filter
from attest.store.schema import audit
from tests.fakes.amd_pki import CHIP as FIRST_CHIP
from tests.fakes.amd_pki import NOW, Leaf
from tests.fakes.kbs_client import KbsError
from tests.fakes.service_world import GOOD, OPERATOR, OTHER, PATH, PKI, ServiceWorld, reference

CHIP, SECOND = FIRST_CHIP.hex(), "c2" * 64
SECOND_PKI = PKI.with_(leaf=Leaf(hwid=bytes.fromhex(SECOND)), report={"chip_id": bytes.fromhex(SECOND)})


@pytest.fixture
def world(store: str | None, tmp_path: Path) -> ServiceWorld:
    """Two chips; one of them also comes with a measurement nobody registered."""
    found = ServiceWorld(tmp_path / "service", store=store)
    for pki, digest in ((PKI, GOOD), (PKI, OTHER), (SECOND_PKI, GOOD)):
        found.later(minutes=1)
        guest = found.client(pki=pki, measurement=digest, report_id=digest[:32])
        with suppress(KbsError):
            guest.resource(str(PATH))
    return found


def test_all_releases_of_a_key_name_chip_measurement_policy_and_tcb(world: ServiceWorld) -> None:
    with world.database.read() as tx:
        found = questions.releases(tx, str(PATH))
        policy = records.find(tx, Filter(kinds=("policy-apply",)))[0]
        assert questions.releases(tx, "default/other/key") == ()
    assert [(item.chip, item.measurement, item.outcome) for item in found] == [
        (CHIP, GOOD.hex(), "released"), (SECOND, GOOD.hex(), "released")
    ]  # fmt: skip
    assert found[0].references == ("web-1",)
    assert found[0].vm == "web-1"
    assert found[0].policy is not None
    assert found[0].policy.encode() in policy.record
    assert isinstance(found[0].tcb, dict)
    assert found[0].emulated


def test_all_vms_that_ran_a_measurement(world: ServiceWorld) -> None:
    with world.database.read() as tx:
        assert [(item.chip, item.outcomes) for item in questions.ran(tx, GOOD.hex())] == [
            (CHIP, ("affirming",)), (SECOND, ("affirming",))
        ]  # fmt: skip
        (refused,) = questions.ran(tx, OTHER.hex().upper())
    assert (refused.outcomes, refused.instance, refused.vm) == (("contraindicated",), OTHER[:32].hex(), None)


def test_everything_a_chip_signed_with_the_checks_that_failed(world: ServiceWorld) -> None:
    with world.database.read() as tx:
        found = questions.signed_by(tx, CHIP)
        assert questions.signed_by(tx, CHIP, since=found[1].time) == found[1:]
        assert questions.signed_by(tx, CHIP, until=found[1].time) == found[:1]
    assert [(item.measurement, item.outcome, item.failed) for item in found] == [
        (GOOD.hex(), "affirming", ()), (OTHER.hex(), "contraindicated", ("measurement",))
    ]  # fmt: skip


def test_what_changed_between_two_moments_and_who_did_it(world: ServiceWorld) -> None:
    world.later(days=1)
    start = world.now
    world.add_reference(reference("web-2", OTHER))
    world.later(days=1)
    world.retire("web-2")
    with world.database.read() as tx:
        found = questions.changes(tx, since=start, until=world.now)
        assert [(item.kind, item.subject, item.actor) for item in found] == [(REFERENCE_ADD, "web-2", "operator:olga")]
        everything = questions.changes(tx)
        (who,) = questions.approvers(tx)
    assert {item.kind for item in everything}.isdisjoint(questions.BY_GUESTS)
    assert (who.actor, who.certificate_sha256) == ("operator:olga", OPERATOR.certificate_sha256)
    assert who.kinds[REFERENCE_ADD] == 2
    assert who.numbers == tuple(item.number for item in everything)


def test_records_are_found_by_chip_measurement_vm_resource_and_time(world: ServiceWorld) -> None:
    with world.database.read() as tx:
        for wanted, kinds in (
            (Filter(chip=CHIP), ["decision", "release", "decision"]),
            (Filter(measurement=OTHER.hex()), ["decision"]),
            (Filter(vm="web-1", kinds=(RELEASE, REFERENCE_ADD)), ["reference-add", "release", "release"]),
            (Filter(subject=str(PATH), outcome="stored"), ["resource-put"]),
            (Filter(since=NOW + timedelta(minutes=3)), ["decision", "release"]),
            (Filter(before=3), ["policy-apply", "reference-add"]),
        ):
            assert [item.kind for item in records.find(tx, wanted)] == kinds
            assert records.count(tx, wanted) == len(kinds)
        assert [item.seq for item in records.find(tx, limit=2)] == [7, 8]


def test_an_answer_is_plain_json(world: ServiceWorld) -> None:
    with world.database.read() as tx:
        answer = questions.answer_json(questions.signed_by(tx, CHIP))
    assert isinstance(answer, list)
    assert isinstance(answer[0], dict)
    assert answer[0]["time"] == rfc3339(NOW + timedelta(minutes=1))


@pytest.mark.parametrize(
    ("column", "value"),
    [("chip", "c3" * 64), ("measurement", OTHER.hex()), ("vm", "web-9"), ("outcome", "contraindicated"), ("time", 1)],
)
def test_an_index_that_was_changed_is_named_not_believed(world: ServiceWorld, column: str, value: object) -> None:
    with world.database.write() as tx:
        tx.execute(update(audit).where(audit.c.seq == 4).values({column: value}))
    with world.database.read() as tx, pytest.raises(AuditBroken, match=f"audit record 4: the index says.*{column}"):
        questions.read_record(records.find(tx, Filter(before=5))[-1])


def test_a_record_that_was_changed_is_named_not_believed(world: ServiceWorld) -> None:
    with world.database.write() as tx:
        record = tx.execute(audit.select().where(audit.c.seq == 4)).one().record
        tx.execute(
            update(audit).where(audit.c.seq == 4).values(record=bytes(record).replace(b"affirming", b"Affirming"))
        )
    with world.database.read() as tx, pytest.raises(AuditBroken, match="audit record 4: was changed"):
        questions.ran(tx, GOOD.hex())


def test_evidence_that_was_not_verified_names_no_chip() -> None:
    assert facts_of(DECISION, "77", {"claims": None, "matched": []}) == Facts()
    masked = {"measurement": "11", "chip_id": "00" * 64}
    assert facts_of(DECISION, "77", {"claims": masked, "matched": []}) == Facts(None, "11", None)
    td = {"mrtd": "22", "pck": {"ppid": "ab"}}
    assert facts_of(DECISION, "77", {"claims": td, "matched": ["web"]}) == Facts("ab", "22", "web")
