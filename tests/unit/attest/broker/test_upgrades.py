"""From one measurement to the next: registered ahead, tried by a few, promoted, and the old one ends by itself."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from attest.audit.canonical import rfc3339
from attest.audit.errors import AuditBroken
from attest.audit.record import Actor
from attest.broker.ends import ends, record_end
from attest.broker.errors import RequestMalformed
from attest.broker.operations import By, add_reference
from attest.broker.repeat import repeat_record
from attest.broker.rules import RulesInForce
from attest.broker.upgrades import progress, promote, state_of
from attest.broker.verify_trail import verify_trail
from attest.store import blobs, records, rules
from attest.store.errors import NotFound
from policy.stage import Canary
from tests.fakes.amd_pki import CHIP, NOW, Leaf
from tests.fakes.kbs_client import KbsClient, KbsError
from tests.fakes.service_world import PATH, PKI, SECRET, ServiceWorld, reference

NEW = b"\x22" * 48
OTHER_CHIP = PKI.with_(leaf=Leaf(hwid=b"\xbb" * 64), report={"chip_id": b"\xbb" * 64})
IDENTITY = 'algorithm = "sha256"\nversion = "0.1.0"\n[data]\n"cvm-identity.toml" = \'\'\'\nvm = "{}"\n\'\'\'\n'
DAY = timedelta(days=1)


@pytest.fixture
def world(tmp_path: Path, store: str | None) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service", store, busy_seconds=30)


def planned(world: ServiceWorld, **canary: Any) -> None:
    """``web-2`` is to follow ``web-1``."""
    add_reference(world.database, reference("web-2", NEW), world.by, canary=Canary("web-1", **canary))


def attested(world: ServiceWorld, vm: str | None = None, **fields: Any) -> KbsClient:
    """A guest of the next measurement."""
    text = None if vm is None else IDENTITY.format(vm)
    host = {} if text is None else {"host_data": hashlib.sha256(text.encode()).digest()}
    client = world.client(**{"measurement": NEW, **host, **fields})
    client.auth()
    client.attest({**client.evidence(), "init-data": None if text is None else {"format": "toml", "body": text}})
    return client


def refused(world: ServiceWorld, **fields: Any) -> str:
    """What the record says about the measurement of a guest that is refused."""
    with pytest.raises(KbsError) as caught:
        attested(world, **fields)
    assert caught.value.information["reasons"] == ["measurement"]
    checks = body(world)["decision"]["checks"]
    return str(next(check["clause"] for check in checks if check["id"] == "measurement"))


def body(world: ServiceWorld, kind: str = "decision") -> dict[str, Any]:
    with world.database.read() as tx:
        found: dict[str, Any] = json.loads(records.newest(tx, kind=kind)[-1].record)["body"]
    return found


def test_a_next_value_counts_for_nobody_before_it_is_promoted_and_the_record_says_why(world: ServiceWorld) -> None:
    planned(world, planned=NOW + 7 * DAY)
    assert "web-2 is to follow web-1, and not promoted yet" in refused(world)
    assert attested(world, measurement=b"\x11" * 48).resource(str(PATH)) == SECRET
    assert body(world, "reference-add")["stage"]["canary"]["follows"] == "web-1"
    assert verify_trail(world.database).repeated == 2


def test_a_canary_by_chip_may_use_it_and_other_chips_may_not(world: ServiceWorld) -> None:
    planned(world, chips=(CHIP.hex(),))
    assert attested(world).resource(str(PATH)) == SECRET
    assert body(world)["decision"]["warnings"] == ["measurement: web-2 is to follow web-1, and used by its canary"]
    assert "this guest is not in its canary" in refused(world, pki=OTHER_CHIP)
    assert verify_trail(world.database).repeated == 2


def test_a_canary_by_the_name_in_init_data_may_use_it_and_other_names_may_not(world: ServiceWorld) -> None:
    planned(world, vms=("web-a",))
    assert attested(world, "web-a").resource(str(PATH)) == SECRET
    assert "not in its canary" in refused(world, vm="web-b")
    assert "not in its canary" in refused(world)
    assert verify_trail(world.database).repeated == 3


def test_a_canary_by_number_ends_with_its_last_release_and_the_refusal_is_on_record(world: ServiceWorld) -> None:
    planned(world, releases=2)
    guest = attested(world)
    assert [guest.get(f"/resource/{PATH}").status for _ in range(3)] == [200, 200, 403]
    assert body(world, "release-refused")["reasons"] == ["canary.releases"]
    assert attested(world).get(f"/resource/{PATH}").status == 403
    with world.database.read() as tx:
        assert rules.get_reference(tx, "web-2").canary_releases == 2


def test_names_and_a_number_bound_the_canary_together(world: ServiceWorld) -> None:
    planned(world, chips=(CHIP.hex(),), releases=1)
    assert "not in its canary" in refused(world, pki=OTHER_CHIP)
    guest = attested(world)
    assert [guest.get(f"/resource/{PATH}").status for _ in range(2)] == [200, 403]


def test_promoted_everybody_may_use_it_and_the_old_one_ends_by_itself_on_its_date(world: ServiceWorld) -> None:
    planned(world)
    assert promote(world.database, "web-2", world.now + 30 * DAY, world.by) == "web-1"
    assert attested(world).resource(str(PATH)) == SECRET
    assert attested(world, measurement=b"\x11" * 48).resource(str(PATH)) == SECRET
    assert "measurement: web-1 retires on " in body(world)["decision"]["warnings"][0]
    world.now += 30 * DAY
    assert "web-1 was retired on " in refused(world, measurement=b"\x11" * 48)
    assert verify_trail(world.database).repeated == 3
    with world.database.read() as tx:
        assert state_of(rules.get_reference(tx, "web-1"), world.now) == "retired"


def test_a_date_that_ends_a_value_is_on_record_once_whichever_replica_looks(world: ServiceWorld) -> None:
    planned(world)
    promote(world.database, "web-2", world.now + DAY, world.by)
    brief = {"expires": world.now + 2 * DAY}
    world.add_reference(reference("brief", b"\x33" * 48, **brief))
    replicas = [RulesInForce(world.database), RulesInForce(world.database)]

    def look() -> list[str]:
        return [
            end.name
            for rules in replicas
            for end in ends(rules.current(), world.now)
            if record_end(world.database, end, By(Actor("service", "r1"), world.now))
        ]

    assert look() == []
    world.later(days=1, seconds=-1)
    assert look() == []
    world.later(seconds=1)
    assert (look(), look()) == (["web-1"], [])
    said = body(world, "reference-retire")
    assert (said["ended"], said["said_by"]) == (rfc3339(NOW + DAY), "upgrade")
    assert world.records("reference-retire")[-1]["outcome"] == "ended by its date"
    world.later(days=1)
    assert (look(), look()) == (["brief"], [])
    assert body(world, "reference-retire")["said_by"] == "file"
    world.retire("web-1")
    assert look() == [], "what somebody retired by hand has its record"
    world.retire("brief")
    world.add_reference(reference("brief", b"\x33" * 48, **brief))
    assert look() == ["brief"], "registered once more it has ended once more"


def test_an_attestation_from_before_the_old_value_ended_gets_no_key_after_it(world: ServiceWorld) -> None:
    planned(world)
    promote(world.database, "web-2", world.now + timedelta(minutes=1), world.by)
    guest = attested(world, measurement=b"\x11" * 48)
    world.later(minutes=2)
    reply = guest.get(f"/resource/{PATH}")
    assert (reply.status, reply.json()["reasons"]) == (403, ["reference.retired"])


def test_a_promotion_ends_every_attestation_from_before_it(world: ServiceWorld) -> None:
    planned(world, chips=(CHIP.hex(),))
    guest = attested(world)
    promote(world.database, "web-2", None, world.by)
    assert guest.get(f"/resource/{PATH}").status == 401
    record = body(world, "reference-promote")
    assert (record["follows"], record["follows_retires"]) == ("web-1", None)


def test_only_a_next_value_is_promoted_and_only_one_that_is_there_is_followed(world: ServiceWorld) -> None:
    with pytest.raises(RequestMalformed, match="in force already"):
        promote(world.database, "web-1", None, world.by)
    with pytest.raises(NotFound, match="'web-9'"):
        add_reference(world.database, reference("web-2", NEW), world.by, canary=Canary("web-9"))
    with world.database.read() as tx:
        assert rules.find_reference(tx, "web-2") is None
        with pytest.raises(RequestMalformed, match="follows no other"):
            progress(tx, "web-1")


def test_progress_shows_who_is_still_on_the_old_value(world: ServiceWorld) -> None:
    planned(world, vms=("web-a",))
    attested(world, "web-a", measurement=b"\x11" * 48)
    attested(world, "web-b", measurement=b"\x11" * 48)
    world.later(hours=1)
    attested(world, "web-a")
    with world.database.read() as tx:
        seen = {one.vm: one.moved for one in progress(tx, "web-2").vms}
    assert seen == {"web-a": True, "web-b": False}
    promote(world.database, "web-2", None, world.by)
    with world.database.read() as tx:
        assert {one.vm for one in progress(tx, "web-2").vms} == {"web-a", "web-b"}


def test_of_many_reference_values_a_record_names_few(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    for number in range(40):
        world.add_reference(reference(f"vm-{number}", hashlib.sha384(b"%d" % number).digest()))
    world.client(measurement=hashlib.sha384(b"39").digest()).handshake()
    check = next(check for check in body(world)["decision"]["checks"] if check["id"] == "measurement")
    assert check["expected"] == f"{hashlib.sha384(b'39').hexdigest()} or one of 41 registered for this platform"
    with pytest.raises(KbsError):
        world.client(measurement=NEW).handshake()
    check = next(check for check in body(world)["decision"]["checks"] if check["id"] == "measurement")
    assert check["expected"] == "one of 41 registered for this platform"
    assert verify_trail(world.database).repeated == 2


def test_a_record_whose_init_data_no_launch_was_bound_to_proves_no_canary(world: ServiceWorld) -> None:
    planned(world, vms=("web-a",))
    attested(world, vm="web-a")
    with world.database.write() as tx:
        record = json.loads(records.newest(tx, kind="decision")[-1].record)
        record["body"]["binding"]["init_data"] = blobs.put(
            tx, (IDENTITY.format("web-a") + "# not the chip's").encode()
        ).hex()
        with pytest.raises(AuditBroken, match="init_data_digest does not follow from the init-data on record"):
            repeat_record(record, "audit record 9", lambda digest: blobs.get(tx, digest))
