"""What the service puts on record by itself, and the checkpoints it signs by itself."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from attest.audit.checkpoint import checkpoint_of
from attest.audit.errors import AuditBroken, NoteMalformed
from attest.audit.note import parse_note, verify_note
from attest.audit.record import Actor
from attest.broker import housekeeping
from attest.broker.bell import PAUSE_SECONDS, Bell
from attest.broker.housekeeping import Housekeeper, keep_house
from attest.broker.opening import apply_policy_file, open_database, open_service
from attest.broker.operations import By, add_reference
from attest.broker.questions import changes, read_record
from attest.broker.standing import Piece, record_change
from attest.broker.witnessing import Witness, witnesses_of
from attest.keys.client_crl import ClientAuthority
from attest.keys.ring import add_key
from attest.settings import Settings, load_settings
from attest.settings_dashboard import DashboardSettings, LoginSettings
from attest.settings_oidc import OidcSettings
from attest.store import blobs, checkpoints, leases, records
from attest.store.records import Filter
from attest.web.health import checks
from policy.errors import CvmError
from tests.fakes.amd_pki import NOW
from tests.fakes.served import Served
from tests.fakes.service_world import PKI, ServiceWorld, reference
from tests.fakes.witness import FakeWitness
from tests.until import until

BY = By(Actor("service", "r1"), NOW)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service's folder, its policy in force; the keys take a while to make."""
    served = Served(tmp_path_factory.mktemp("house") / "service").init()
    settings = load_settings(served.config)
    database = open_database(settings)
    apply_policy_file(database, settings, BY)
    database.close()
    return served.folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "service")
    return tmp_path / "service"


def housekeeper(folder: Path, replica: str = "r1", **changed: Any) -> Housekeeper:
    settings: Settings = replace(load_settings(folder / "attest.toml"), **changed)
    keeper = Housekeeper.of(open_service(settings), settings)
    keeper.replica = replica
    return keeper


def bodies(keeper: Housekeeper, kind: str) -> list[dict[str, Any]]:
    with keeper.service.database.read() as tx:
        return [read_record(stored)["body"] for stored in records.find(tx, Filter(kinds=(kind,)))]


def test_a_first_start_says_what_the_service_stands_on_and_a_second_one_nothing(folder: Path) -> None:
    housekeeper(folder).begin(NOW)
    keeper = housekeeper(folder)
    keeper.begin(NOW)
    found = {
        kind: bodies(keeper, kind) for kind in ("roles-change", "keys-change", "settings-change", "collateral-change")
    }
    assert [len(entries) for entries in found.values()] == [1, 1, 1, 1]
    assert list(found["roles-change"][0]["added"]) == ["operators"]
    keys = found["keys-change"][0]["added"]
    assert {name.rpartition(" ")[0] for name in keys} == {"token key", "master key", "TLS", "answer", "log"}
    assert "signers" in found["settings-change"][0]["added"]["policy"]


def test_the_house_puts_on_record_what_a_date_has_ended(folder: Path) -> None:
    keeper = housekeeper(folder)
    document = reference("brief", expires=NOW + timedelta(days=1))
    add_reference(keeper.service.database, document, BY)
    for day in (0, 1, 2):
        keeper.look_at_references(NOW + timedelta(days=day))
        assert len(bodies(keeper, "reference-retire")) == min(day, 1)
    housekeeper(folder, "r2").look_at_references(NOW + timedelta(days=3))
    assert [found["said_by"] for found in bodies(keeper, "reference-retire")] == ["file"]


def test_no_secret_is_in_what_is_recorded_of_keys(folder: Path) -> None:
    keeper = housekeeper(folder)
    keeper.begin(NOW)
    text = repr(bodies(keeper, "keys-change"))
    secret = [line for name in ("log.key", "answer.key", "server.key") if (folder / name).exists()
              for line in (folder / name).read_text().splitlines() if not line.startswith("-")]  # fmt: skip
    assert secret
    assert not [line for line in secret if line in text]


def test_another_authority_of_operators_is_on_record_with_both_digests(folder: Path) -> None:
    housekeeper(folder).begin(NOW)
    keeper = housekeeper(
        folder,
        server=replace(load_settings(folder / "attest.toml").server, operators=ClientAuthority(folder / "server.pem")),
    )
    keeper.begin(NOW + timedelta(days=1))
    change = bodies(keeper, "roles-change")[1]["changed"]["operators"]
    assert change["before"]["authorities"] != change["after"]["authorities"]
    with keeper.service.database.read() as tx:
        assert [(found.actor, found.outcome) for found in changes(tx) if found.kind == "roles-change"] == [
            ("service:r1", "first seen"),
            ("service:r1", "changed"),
        ]


def test_who_may_log_in_at_the_dashboard_is_on_record(folder: Path) -> None:
    settings = load_settings(folder / "attest.toml")
    login = LoginSettings("pages", "https://pages.test")
    pages = DashboardSettings(settings.server.listen, login=login)
    oidc = OidcSettings("https://login.test", "x", ("roles",), auditor=("audit",))
    keeper = housekeeper(folder, dashboard=pages, server=replace(settings.server, oidc=oidc))
    keeper.begin(NOW)
    said = bodies(keeper, "roles-change")[0]["added"]["log-in at the dashboard"]
    assert (said["client"], said["origin"], said["issuer"]) == ("pages", "https://pages.test", "https://login.test")


def test_a_new_token_key_and_another_audience_are_on_record(folder: Path) -> None:
    ring = folder / "tokens"
    ring.mkdir()
    add_key(ring, NOW)
    housekeeper(folder, token_key_file=ring).begin(NOW)
    key = add_key(ring, NOW + timedelta(hours=1)).key
    keeper = housekeeper(folder, token_key_file=ring, audience="other")
    keeper.begin(NOW)
    assert list(bodies(keeper, "keys-change")[1]["added"]) == [f"token key {key.kid}"]
    change = bodies(keeper, "settings-change")[1]["changed"]
    assert (list(change), change["token"]["after"]["audience"]) == (["token"], "other")


def test_a_list_that_comes_changes_or_goes_in_the_folder_is_on_record_with_its_bytes(folder: Path) -> None:
    keeper = housekeeper(folder)
    keeper.begin(NOW)
    path = folder / "collateral" / "list.crl"
    lists = [PKI.crl(), PKI.crl(this_update=NOW + timedelta(days=1))]
    for at, data in enumerate(lists):
        path.write_bytes(data)
        keeper.look_at_collateral(NOW)
        (name,) = bodies(keeper, "collateral-change")[1 + at]["added"]
        assert "revocation list" in name
    path.unlink()
    keeper.look_at_collateral(NOW)
    keeper.look_at_collateral(NOW + timedelta(days=1000))
    found = bodies(keeper, "collateral-change")[1:]
    assert [(len(entry["added"]), len(entry["removed"])) for entry in found] == [(1, 0), (1, 1), (0, 1)]
    with keeper.service.database.read() as tx:
        for entry, data in zip(found, lists, strict=False):
            ((_, facts),) = entry["added"].items()
            assert blobs.get(tx, bytes.fromhex(facts["sha256"][0])) == data


def test_a_chips_own_certificate_is_no_change_of_what_is_trusted(folder: Path) -> None:
    keeper = housekeeper(folder)
    keeper.begin(NOW)
    (folder / "collateral" / "vcek.der").write_bytes(PKI.leaf_der)
    keeper.look_at_collateral(NOW)
    assert len(bodies(keeper, "collateral-change")) == 1


def test_a_folder_that_cannot_be_read_is_on_record(folder: Path) -> None:
    keeper = housekeeper(folder)
    keeper.begin(NOW)
    (folder / "collateral").rmdir()
    keeper.look_at_collateral(NOW)
    assert "no such folder" in bodies(keeper, "collateral-change")[1]["added"]["folder"]["unreadable"]


@pytest.fixture
def world(store: str | None, tmp_path: Path) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service", store=store)


def test_replicas_that_agree_share_a_record_and_one_that_differs_says_so_once(world: ServiceWorld) -> None:
    def note(replica: str, value: int) -> bool:
        return record_change(world.database, "keys-change", {"x": Piece({"is": value})}, replica, BY) is not None

    assert [note("r1", 1), note("r2", 1), note("r1", 1)] == [True, False, False]
    assert [note("r2", 2), note("r1", 1), note("r2", 2), note("r1", 1)] == [True, False, False, False]
    assert [note("r2", 1), note("r1", 3), note("r1", 1)] == [True, True, True]


def test_a_last_record_that_was_tampered_with_is_noticed(world: ServiceWorld) -> None:
    record_change(world.database, "keys-change", {"x": Piece({"is": 1})}, "r1", BY)
    with world.database.write() as tx:
        tx.exec_driver_sql("UPDATE audit SET record = sha256 WHERE kind = 'keys-change'")
    with pytest.raises(AuditBroken):
        record_change(world.database, "keys-change", {"x": Piece({"is": 1})}, "r1", BY)


def test_a_lease_is_one_holders_until_it_ends(world: ServiceWorld) -> None:
    minute = timedelta(minutes=1)
    with world.database.write() as tx:
        taken = [
            leases.take(tx, "checkpoint", who, NOW + at * minute, NOW + (at + 2) * minute)
            for who, at in (("a", 0), ("b", 1), ("a", 1), ("b", 2), ("b", 4), ("a", 4))
        ]
    assert taken == [True, False, True, False, True, False]


@pytest.fixture
def witness(folder: Path) -> Iterator[FakeWitness]:
    log = housekeeper(folder).signer
    assert log is not None
    witness = FakeWitness({log.key.origin: log.key.verifier})
    yield witness
    witness.close()


def sized(keeper: Housekeeper) -> int:
    with keeper.service.database.read() as tx:
        last = checkpoints.newest(tx)
    return 0 if last is None else last.size


def seen(folder: Path) -> int:
    return checkpoint_of(parse_note((folder / "log.seen").read_bytes())).size


def test_once_an_interval_a_checkpoint_is_signed_cosigned_and_noted(folder: Path, witness: FakeWitness) -> None:
    keeper = housekeeper(folder)
    keeper.witnesses = (Witness(witness.url, witness.verifier),)
    keeper.begin(NOW)
    for minute in (0, 4, 5):
        record_change(keeper.service.database, "keys-change", {"x": Piece({"is": minute})}, "r9", BY)
        keeper.sign_if_due(NOW + timedelta(minutes=minute))
    with keeper.service.database.read() as tx:
        last, size = checkpoints.newest(tx), checkpoints.size_of_log(tx)
    assert last is not None
    assert (last.size, seen(folder)) == (size, size)
    assert verify_note(parse_note(last.note), [witness.verifier])
    assert len(witness.known) == 1


def test_a_witness_that_is_down_is_named_once_and_delays_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture, witness: FakeWitness
) -> None:
    keeper = housekeeper(folder)
    keeper.witnesses = (Witness("http://127.0.0.1:1", witness.verifier),)
    for minute in (0, 5, 10):
        record_change(keeper.service.database, "keys-change", {"x": Piece({"is": minute})}, "r9", BY)
        keeper.sign_if_due(NOW + timedelta(minutes=minute))
    assert len([line for line in caplog.messages if "cannot be reached" in line]) == 1
    keeper.witnesses = (Witness(witness.url, witness.verifier),)
    keeper.sign_if_due(NOW + timedelta(minutes=15))
    assert caplog.messages[-1] == "checkpoint: all witnesses cosign again"
    assert sized(keeper) == seen(folder)


def test_of_two_replicas_one_signs_and_the_other_notes_it_until_the_first_is_gone(folder: Path, tmp_path: Path) -> None:
    first, second = housekeeper(folder), housekeeper(folder, "r2")
    assert second.signer is not None
    second.signer = replace(second.signer, seen=tmp_path / "second.seen")
    first.sign_if_due(NOW)
    record_change(first.service.database, "keys-change", {"x": Piece({"is": 1})}, "r9", BY)
    second.sign_if_due(NOW + timedelta(minutes=1))
    assert sized(second) == seen(folder) == checkpoint_of(parse_note(second.signer.seen.read_bytes())).size
    size = sized(second)
    second.sign_if_due(NOW + timedelta(hours=1))
    assert sized(second) > size


def test_a_database_that_was_put_back_is_noticed_by_the_replica_that_only_follows(folder: Path, tmp_path: Path) -> None:
    first, second = housekeeper(folder), housekeeper(folder, "r2")
    assert second.signer is not None
    second.signer = replace(second.signer, seen=tmp_path / "second.seen")
    shutil.copy(folder / "attest.db", tmp_path / "old.db")
    record_change(first.service.database, "keys-change", {"x": Piece({"is": 1})}, "r9", BY)
    first.sign_if_due(NOW)
    second.sign_if_due(NOW + timedelta(minutes=1))
    first.service.database.close()
    second.service.database.close()
    for beside in folder.glob("attest.db-*"):
        beside.unlink()
    shutil.copy(tmp_path / "old.db", folder / "attest.db")
    with second.service.database.write() as tx:
        assert leases.take(tx, "checkpoint", "somebody", NOW, NOW + timedelta(days=1))
    with pytest.raises(AuditBroken, match="records, the database"):
        second.sign_if_due(NOW + timedelta(minutes=10))
    assert checks(first.service, NOW)["log"] == "audit.broken"


def test_a_log_that_extends_what_was_signed_is_fit(folder: Path) -> None:
    keeper = housekeeper(folder)
    assert checks(keeper.service, NOW)["log"] == "ok"
    keeper.sign_if_due(NOW)
    record_change(keeper.service.database, "keys-change", {"x": Piece({"is": 1})}, "r9", BY)
    assert checks(keeper.service, NOW)["log"] == "ok"


def test_what_fails_is_logged_and_tried_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeper = housekeeper(folder)
    (folder / "log.seen").write_text("rubbish")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep_house(keeper, lambda: NOW + len(slept) * timedelta(minutes=6), sleep)
    assert slept == [housekeeping.LOOK_SECONDS] * 2
    assert len([entry for entry in caplog.records if entry.levelname == "ERROR"]) == 2


def test_who_asks_gets_a_checkpoint_at_once_whoever_holds_the_lease(folder: Path) -> None:
    keeper = housekeeper(folder)
    keeper.begin(NOW)
    with keeper.service.database.write() as tx:
        assert leases.take(tx, "checkpoint", "somebody", NOW, NOW + timedelta(days=1))
    asked = iter((False, True))
    with pytest.raises(StopIteration):
        keep_house(keeper, lambda: NOW, lambda seconds: next(asked))
    with keeper.service.database.read() as tx:
        assert sized(keeper) == checkpoints.size_of_log(tx)


def test_a_bell_that_rang_often_is_heard_once_and_not_again_at_once() -> None:
    bell = Bell()
    assert not bell.wait(0)
    bell.ring()
    bell.ring()
    begun = time.monotonic()
    assert (bell.wait(0), bell.wait(0)) == (True, False)
    bell.ring()
    assert bell.wait(0)
    assert time.monotonic() - begun >= PAUSE_SECONDS


def test_without_a_log_or_with_0_seconds_nothing_is_signed(folder: Path) -> None:
    settings = load_settings(folder / "attest.toml")
    assert settings.audit is not None
    for audit in (None, replace(settings.audit, checkpoint_every=timedelta(0))):
        keeper = housekeeper(folder, audit=audit)
        keeper.sign_if_due(NOW)
        assert sized(keeper) == 0


def test_a_key_that_signs_logs_is_no_witness(folder: Path) -> None:
    log = housekeeper(folder).signer
    assert log is not None
    with pytest.raises(NoteMalformed, match="signs logs"):
        witnesses_of([("https://w", log.key.verifier.vkey)])


def test_the_running_service_signs_by_itself(folder: Path) -> None:
    served = Served(folder)
    served.config.write_text(served.config.read_text().replace("checkpoint_seconds = 300", "checkpoint_seconds = 1"))
    served.start()
    try:
        until((folder / "log.seen").exists, "a checkpoint is signed")
        assert seen(folder) > 0
    finally:
        assert served.stop() == 0
    assert served.attest("audit", "verify").code == 0
    assert "Traceback" not in served.log.read_text()


def test_a_start_without_the_logs_key_is_refused(folder: Path) -> None:
    (folder / "log.key").unlink()
    with pytest.raises(CvmError, match=r"log\.key"):
        housekeeper(folder)


def test_two_replicas_on_one_machine_with_other_files_do_not_take_turns_in_the_log(folder: Path) -> None:
    settings = load_settings(folder / "attest.toml")
    listening = [replace(settings.server, listen=replace(settings.server.listen, port=port)) for port in (8443, 9443)]
    pair = []
    for server, audience in zip(listening, ("a", "b"), strict=True):
        changed = replace(settings, server=server, audience=audience)
        pair.append(Housekeeper.of(open_service(changed), changed))
    for _ in range(3):
        for keeper in pair:
            keeper.begin(NOW)
    assert len(bodies(pair[0], "settings-change")) == 2
