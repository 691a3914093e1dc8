"""What was accepted and would be refused today: by today's rules, and by lists that came out since."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func

from attest.audit.errors import AuditBroken
from attest.broker.collateral import ServiceCollateral
from attest.broker.today import NotToday, not_today
from attest.collateral.folder import CollateralFolder
from attest.evidence.amd_certificate import AmdCertificate
from attest.store.schema import blobs
from policy.document import parse_policy
from tests.fakes.service_world import OTHER, PATH, PKI, ServiceWorld, demo_policy, reference


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    found = ServiceWorld(tmp_path / "service")
    found.client().resource(str(PATH))
    found.later(days=1)
    return found


def judged(world: ServiceWorld, policy: bytes | None = None, folder: Path | None = None) -> list[NotToday]:
    collateral = ServiceCollateral(CollateralFolder(folder))
    rules = world.service.rules.current()
    if policy is not None:
        rules = replace(rules, document=parse_policy(policy))
    with world.database.read() as tx:
        return list(not_today(tx, rules, collateral, world.now))


def test_what_is_still_accepted_is_not_named(world: ServiceWorld) -> None:
    assert judged(world) == []


def test_a_measurement_that_was_retired_since(world: ServiceWorld) -> None:
    world.add_reference(reference("web-2", OTHER))
    world.retire("web-1")
    (found,) = judged(world)
    assert (found.number, found.outcome, found.reasons) == (4, "contraindicated", ("measurement",))
    assert (found.vm, found.chip) == ("web-1", PKI.chip_id.hex())
    assert found.message.startswith("reference value web-1 is in force no more; measurement: got 1111")


def test_a_reference_value_that_ended_since_is_named_with_its_date(world: ServiceWorld) -> None:
    world.add_reference(reference("web-2", OTHER, expires=world.now + timedelta(days=2)))
    world.client(measurement=OTHER).resource(str(PATH))
    world.later(days=3)
    (found,) = judged(world)
    ended = f"reference value web-2 ended on {(world.now - timedelta(days=1)).date()}; measurement: got {OTHER.hex()}"
    assert (found.reasons, found.message.partition(", want ")[0]) == (("measurement",), ended)


def test_a_policy_whose_tcb_floor_was_raised_can_be_tried_before_it_is_applied(world: ServiceWorld) -> None:
    (found,) = judged(world, demo_policy().replace(b"microcode = 72", b"microcode = 200"))
    assert (found.outcome, found.reasons) == (
        "contraindicated", ("snp.tcb.reported", "snp.tcb.committed", "snp.tcb.current", "snp.tcb.launch")
    )  # fmt: skip
    assert (
        "snp.tcb.reported: got bootloader=10 tee=0 snp=24 microcode=84 (microcode too low), want >= b" in found.message
    )


def test_a_list_that_revokes_the_intermediate_since(world: ServiceWorld, tmp_path: Path) -> None:
    folder = tmp_path / "collateral"
    folder.mkdir()
    serial = AmdCertificate.parse(PKI.ask_der).parsed.serial_number
    (folder / "list").write_bytes(PKI.crl(revoked=[serial]))
    (found,) = judged(world, folder=folder)
    assert (found.outcome, found.message != "") == ("not-genuine", True)


def test_evidence_that_was_changed_is_named_not_judged(world: ServiceWorld) -> None:
    with world.database.write() as tx:
        digest = tx.execute(blobs.select().where(func.length(blobs.c.data) == 1184)).one().sha256  # the report
        tx.execute(blobs.update().where(blobs.c.sha256 == digest).values(data=b"x"))
    with pytest.raises(AuditBroken, match="were changed"):
        judged(world)
