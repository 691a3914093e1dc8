"""A service is backed up while it runs, lost, restored elsewhere, and releases a key; what must be refused is refused."""

from __future__ import annotations

import base64
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import delete

from attest.attester.kbs import KbsClient as GuestClient
from attest.attester.session import Session
from attest.audit.record import Actor
from attest.broker import lifecycle
from attest.broker.errors import ApprovalMissing, BackupRefused
from attest.broker.opening import open_service
from attest.broker.operations import By, NewResource, add_reference, put_resource
from attest.broker.rules import active_document
from attest.cli.drill_guest import prepare
from attest.keys.authority import make_authority
from attest.keys.master import load_master_keys
from attest.settings import load_settings
from attest.store import grants, records, rules, secrets
from attest.store.engine import Database
from attest.store.schema import blobs
from attest.store.schema import secrets as secrets_table
from attest.web.app import create_app
from attest.web.guest import GUEST_ROUTES
from attest.web.principals import no_caller
from policy.secret import SecretBytes
from policy.vocab import ResourcePath
from tests.fakes.kbs_client import KbsClient, TeeKey, WsgiTransport
from tests.fakes.postgres import PostgresServer
from tests.fakes.served import Done, Served, attest_command
from tests.fakes.service_world import PKI, SECRET, ServiceWorld, evidence, reference

RESOURCE = "default/web-1/root"
ACCEPT = ("--accept-rollback", "--reason", "the machine burnt")


def furnished(folder: Path, *more: str) -> Served:
    """A service with a reference value and a key; it does not run."""
    served = Served(folder).init(PKI, *more)
    settings, by = load_settings(served.config), By(Actor("local", "test"), datetime.now(UTC))
    database = Database(settings.database)
    add_reference(database, reference(), by)
    put(database, folder, RESOURCE)
    shutil.copy(folder / "master.key", folder.parent / "master.key")
    return served


def put(database: Database, folder: Path, path: str) -> None:
    """Store a key."""
    keys, by = load_master_keys(folder / "master.key"), By(Actor("local", "test"), datetime.now(UTC))
    put_resource(database, keys, NewResource(ResourcePath.parse(path), SecretBytes(SECRET)), by)
    database.close()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a service on SQLite, its ``service.backup`` and a copy of its master key."""
    folder = tmp_path_factory.mktemp("original")
    assert backup(furnished(folder / "service")).code == 0
    return folder


@pytest.fixture
def backed_up(original: Path, tmp_path: Path) -> Served:
    """A copy of it."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return Served(tmp_path / "service")


def backup(served: Served) -> Done:
    return served.attest("backup", "-o", str(served.folder.parent / "service.backup"), "--json")


def restored(served: Served, *more: str, to: str = "again") -> Done:
    folder = served.folder.parent
    options = ("--master-key", str(folder / "master.key"), "--to", str(folder / to), *more)
    return attest_command("restore", str(folder / "service.backup"), *options, "--json")


def releases(folder: Path, token: str | None = None) -> bytes:
    """What a guest gets from the service in ``folder``, once its master key is in place; ``token`` gets nothing."""
    shutil.copy(folder.parent / "master.key", folder / "master.key")
    served = Served(folder).start()
    try:
        guest = served.guest()
        if token is not None:
            assert guest.get(f"/resource/{RESOURCE}", token).status == 401
        guest.handshake()
        return guest.resource(RESOURCE)
    finally:
        served.stop()


def test_a_running_service_on_sqlite_is_backed_up_restored_and_releases_a_key_but_not_to_an_old_token(
    tmp_path: Path,
) -> None:
    served = furnished(tmp_path / "service").start()
    token = served.guest().handshake()
    made = backup(served)
    served.stop()
    assert made.code == 0, made.err
    (tmp_path / "service").rename(tmp_path / "lost")
    done = restored(served, *ACCEPT)
    assert done.code == 0, done.err
    assert releases(tmp_path / "again", token) == SECRET
    verified = Served(tmp_path / "again").attest("audit", "verify")
    assert verified.code == 0, verified.err


def test_a_service_on_postgresql_is_restored_into_another_database_and_releases_a_key(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    served = furnished(tmp_path / "service", "--database", postgres.new_database())
    assert backup(served).code == 0
    refused = restored(served, *ACCEPT)  # the settings name the database that is still there
    assert refused.code == 3 and "has tables already" in refused.err
    assert not (tmp_path / "again").exists()
    done = restored(served, *ACCEPT, "--database", postgres.new_database())
    assert done.code == 0, done.err
    assert releases(tmp_path / "again") == SECRET
    again = Served(tmp_path / "again")
    (tmp_path / "web-2.ref.json").write_bytes(reference("web-2", b"\x22" * 48))
    added = again.attest("reference", "add", str(tmp_path / "web-2.ref.json"))
    assert added.code == 0, added.err  # rows the database numbers by itself go on after the restored ones
    done = restored(served, *ACCEPT, "--database", "attest.db", to="on-sqlite")
    assert done.code == 0, done.err
    assert Served(tmp_path / "on-sqlite").attest("audit", "verify").code == 0


def test_a_backup_holds_no_master_key_and_says_what_it_does_not_hold(backed_up: Served, tmp_path: Path) -> None:
    (tmp_path / "service.backup").unlink()
    made = json.loads(backup(backed_up).out)
    left_out = {Path(entry["path"]).name: entry["why"] for entry in made["left_out"]}
    assert "never in a backup" in left_out["master.key"]
    assert {"ca.key", "operator-ca.key", "operator.key"} <= set(left_out)
    assert {"attest.toml", "policy.toml", "server.key", "token.key", "log.key", "ca.pem"} <= set(made["files"])
    assert not {"master.key", "ca.key", "operator-ca.key"} & set(made["files"])
    assert oct((tmp_path / "service.backup").stat().st_mode)[-3:] == "600"


def test_a_backup_is_on_record_and_so_is_its_restore(backed_up: Served, tmp_path: Path) -> None:
    assert restored(backed_up, *ACCEPT).code == 0
    listed = json.loads(Served(tmp_path / "again").attest("audit", "list", "--json").out)
    assert [entry["kind"] for entry in listed["records"]][-2:] == ["backup", "restore"]
    shown = Served(tmp_path / "again").attest("audit", "show", str(len(listed["records"])), "--json")
    body = json.loads(shown.out)["body"]
    assert body["reason"] == "the machine burnt" and body["lost"] is None


def test_approvals_that_may_have_been_used_after_the_backup_do_not_come_back_with_it(
    backed_up: Served, tmp_path: Path
) -> None:
    path, olga = ResourcePath.parse(RESOURCE), By(Actor("operator", "olga", "ab" * 32), datetime.now(UTC))
    database = Database(tmp_path / "service" / "attest.db")
    lifecycle.set_conditions(database, path, b'approval = {need = 1, of = ["olga"]}', olga)
    lifecycle.approve(database, path, "export", 60, olga)
    lifecycle.break_glass(database, path, "x", 60, olga)
    (tmp_path / "service.backup").unlink()
    assert backup(backed_up).code == 0
    keys = load_master_keys(tmp_path / "master.key")
    assert lifecycle.export(database, keys, path, "once", olga).reveal() == SECRET
    assert restored(backed_up, *ACCEPT).code == 0
    again = Database(tmp_path / "again" / "attest.db")
    with pytest.raises(ApprovalMissing):
        lifecycle.export(again, keys, path, "and again", olga)
    with again.read() as tx:
        assert grants.all_in_force(tx, olga.now) == ()


@pytest.mark.parametrize("at", [0, 40, 400, -1])
def test_an_archive_with_one_byte_changed_is_refused_and_nothing_is_left(
    backed_up: Served, tmp_path: Path, at: int
) -> None:
    path = tmp_path / "service.backup"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    done = restored(backed_up, *ACCEPT)
    assert done.code in (6, 10), done.err
    assert not (tmp_path / "again").exists()
    assert not list(tmp_path.glob(".again*"))


def test_an_archive_that_was_cut_off_is_refused(backed_up: Served, tmp_path: Path) -> None:
    path = tmp_path / "service.backup"
    path.write_bytes(path.read_bytes()[:-1])
    assert restored(backed_up, *ACCEPT).code == 6


def test_an_archive_of_another_revision_of_the_tables_is_refused_with_what_to_do(
    backed_up: Served, tmp_path: Path
) -> None:
    path = tmp_path / "service.backup"
    magic, header, rest = path.read_bytes().split(b"\n", 2)
    changed = json.dumps({**json.loads(header), "revision": "0001_other"}).encode()
    path.write_bytes(b"\n".join((magic, changed, rest)))
    done = restored(backed_up, *ACCEPT)
    assert done.code == 10
    assert "0001_other" in done.err and "attest db upgrade" in done.err


def test_another_master_key_opens_nothing(backed_up: Served, tmp_path: Path) -> None:
    Served(tmp_path / "other").init()
    shutil.copy(tmp_path / "other" / "master.key", tmp_path / "master.key")
    done = restored(backed_up, *ACCEPT)
    assert done.code == 6
    assert "not in the master key file" in done.err


def test_a_folder_that_is_not_empty_is_not_restored_into(backed_up: Served, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "somebody's").touch()
    done = restored(backed_up, *ACCEPT)
    assert done.code == 10
    assert os.listdir(tmp_path / "again") == ["somebody's"]


def test_without_what_was_signed_last_a_restore_wants_the_rollback_accepted(backed_up: Served) -> None:
    done = restored(backed_up)
    assert done.code == 10
    assert "backup.rollback" in done.err and "--accept-rollback" in done.err


def test_accepting_a_rollback_wants_a_reason(backed_up: Served) -> None:
    assert restored(backed_up, "--accept-rollback").code == 3


def test_a_log_that_extends_what_was_signed_last_is_restored_without_a_word(backed_up: Served, tmp_path: Path) -> None:
    served = backed_up
    (tmp_path / "service.backup").unlink()
    assert served.attest("audit", "checkpoint").code == 0
    assert backup(served).code == 0
    done = restored(served, "--seen", str(served.folder / "log.seen"))
    assert done.code == 0, done.err
    assert json.loads(done.out)["lost"] == 0
    assert Served(tmp_path / "again").attest("audit", "checkpoint").code == 0


def test_a_log_shorter_than_what_was_signed_last_needs_the_reason_and_says_how_many_are_lost(backed_up: Served) -> None:
    served = backed_up
    put(Database(served.folder / "attest.db"), served.folder, "default/web-1/other")
    assert served.attest("audit", "checkpoint").code == 0
    seen = ("--seen", str(served.folder / "log.seen"))
    refused = restored(served, *seen)
    assert refused.code == 10 and "signed" in refused.err
    done = restored(served, *seen, *ACCEPT)
    assert done.code == 0, done.err
    assert json.loads(done.out)["lost"] == 1


def test_a_log_seen_of_another_service_is_refused(backed_up: Served, tmp_path: Path) -> None:
    other = Served(tmp_path / "other").init()
    assert other.attest("audit", "checkpoint").code == 0
    done = restored(backed_up, "--seen", str(other.folder / "log.seen"), *ACCEPT)
    assert done.code == 6
    assert "of another log" in done.err


def test_a_drill_starts_the_service_opens_the_keys_and_leaves_nothing(backed_up: Served, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in backed_up.folder.iterdir()}
    options = ("--master-key", str(tmp_path / "master.key"), "--json")
    done = attest_command("drill", str(tmp_path / "service.backup"), *options)
    assert done.code == 0, done.err
    found = {step["step"]: step["found"] for step in json.loads(done.out)["steps"]}
    assert found["open keys"] == "1 of 1 resources decrypt"
    assert found["decide again"] == "no guest was accepted yet"
    assert (found["serve"], found["attest"]) == ("ready", "a guest got its key, another one was refused")
    assert {path: path.stat().st_mtime_ns for path in backed_up.folder.iterdir()} == before


def visited(served: Served) -> Database:
    """A guest was accepted and got its key, without a server in between."""
    service = open_service(load_settings(served.config))
    web = create_app(service, GUEST_ROUTES, no_caller).test_client(use_cookies=False)
    guest = KbsClient(WsgiTransport(web), lambda data: evidence(data), TeeKey("P-256"))
    assert guest.resource(RESOURCE) == SECRET
    return service.database


def test_a_drill_decides_the_last_accepted_guest_again_and_trusts_its_own_chip_in_the_copy_only(
    backed_up: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visited(backed_up)
    attest, tokens = GuestClient.attest, list[str]()
    monkeypatch.setattr(GuestClient, "attest", lambda *words: tokens.append(attest(*words)) or tokens[-1])
    text = backed_up.config.read_text()
    signers = 'signers = [   # [who]\n  "alice.pub",\n]\n'
    backed_up.config.write_text(text.replace("[policy]\n", f"[policy]\n{signers}", 1))
    (tmp_path / "service.backup").unlink()
    (backed_up.folder / "alice.pub").write_bytes(public_key())
    assert backup(backed_up).code == 0
    stays = tmp_path / "stays.db"
    options = ("--master-key", str(tmp_path / "master.key"), "--database", str(stays), "--json")
    done = attest_command("drill", str(tmp_path / "service.backup"), *options)
    assert done.code == 0, done.err
    found = {step["step"]: step["found"] for step in json.loads(done.out)["steps"]}
    assert "comes out the same" in found["decide again"]
    assert found["attest"] == "a guest got its key, another one was refused"
    said = [json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "==")) for token in tokens]
    assert [(claims["iss"], claims["aud"]) for claims in said] == [("drill", "drill")], "nobody takes it for a real one"
    left = Database(stays)
    with left.read() as tx:
        assert secrets.all_sealed(tx) == ()
        assert active_document(tx) == (backed_up.folder / "policy.toml").read_bytes(), "it trusts whom it trusted"
        assert [entry.name for entry in rules.active_references(tx)] == ["web-1"]
        released = [entry for entry in records.newest(tx, kind="release") if entry.subject != RESOURCE]
    assert [entry.subject.partition("/")[0] for entry in released] == ["drill"]


def test_a_drill_fails_where_what_the_last_guest_was_accepted_by_is_not_in_the_backup(
    backed_up: Served, tmp_path: Path
) -> None:
    database = visited(backed_up)
    with database.write() as tx:
        decided = json.loads(records.newest(tx, kind="decision")[-1].record)["body"]
        tx.execute(delete(blobs).where(blobs.c.sha256 == bytes.fromhex(decided["evidence"]["report"])))
    (tmp_path / "service.backup").unlink()
    assert backup(backed_up).code == 0
    done = attest_command("drill", str(tmp_path / "service.backup"), "--master-key", str(tmp_path / "master.key"))
    assert (done.code, "gone" in done.err) == (6, True), done.err


def test_the_copy_trusts_nobody_else_while_a_key_is_in_it(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    before = world.records()
    with pytest.raises(BackupRefused, match="1 keys are still in the copy"):
        prepare(world.database, world.keys, world.by)
    assert world.records() == before


def test_a_drill_fails_where_its_guest_gets_another_key_or_anybody_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = ServiceWorld(tmp_path / "service")
    with world.database.write() as tx:
        tx.execute(delete(secrets_table))
    monkeypatch.setattr("attest.cli.drill_guest.make_chip", lambda now: SimpleNamespace(root_sha256="0" * 64))
    guest = prepare(world.database, world.keys, world.by)
    monkeypatch.setattr(Session, "secret", lambda self, path: SecretBytes(b"x" * 32))
    with pytest.raises(BackupRefused, match="another key"):
        guest.attest(1, tmp_path)
    monkeypatch.setattr(Session, "secret", lambda self, path: SecretBytes(guest.value))
    monkeypatch.setattr(Session, "attest", lambda self: "token")
    with pytest.raises(BackupRefused, match="accepts a guest whose measurement"):
        guest.attest(1, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("attest.cli.drill_guest._PATIENCE", 0.0)
    authority = tmp_path / "ca.pem"
    authority.write_bytes(make_authority("nobody listens", datetime.now(UTC)).certificate_pem())
    with pytest.raises(BackupRefused, match="gives an accepted guest no key"):
        guest.attest(1, authority)


def public_key() -> bytes:
    return Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_a_drill_of_an_archive_whose_key_does_not_open_fails(backed_up: Served, tmp_path: Path) -> None:
    path = tmp_path / "service.backup"
    path.write_bytes(path.read_bytes()[:-1])
    done = attest_command("drill", str(path), "--master-key", str(tmp_path / "master.key"))
    assert done.code == 6
