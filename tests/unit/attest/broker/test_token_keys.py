"""Keys of tokens in the database: one rotation is every replica's, and nobody who sees the database can sign."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from sqlalchemy import update

from attest.broker.errors import RequestMalformed, ServiceMisconfigured
from attest.broker.expiry import Expiries
from attest.broker.rewrapping import rewrap_all
from attest.broker.token_keys import StoredRing, rotate
from attest.broker.watched import Watched
from attest.keys.errors import SealBroken
from attest.keys.master import MasterKeys
from attest.keys.ring import MAX_KEYS
from attest.keys.signing import ES256, ES384
from attest.store.schema import token_keys
from attest.store.token_keys import erase
from attest.web.health import checks
from policy.secret import SecretBytes
from tests.fakes.amd_pki import NOW
from tests.fakes.kbs_client import KbsError
from tests.fakes.service_world import PATH, SECRET, ServiceWorld

LIFE = timedelta(minutes=5)


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    return stored(ServiceWorld(tmp_path / "service"))


def stored(world: ServiceWorld) -> ServiceWorld:
    """The same service with its keys in the database, looked at on every use."""
    rotate(world.database, world.keys, 0, ES256, LIFE, world.by)
    world.service = replace(world.service, signing_keys=ring(world))
    return world


def ring(world: ServiceWorld) -> StoredRing:
    ticks: Iterator[int] = iter(range(10**6))
    return StoredRing(world.database, world.keys, clock=lambda: float(next(ticks)))


def rotated(world: ServiceWorld, **query: Any) -> Any:
    answer = world.admin_app().test_client().post("/cvm/v0/token-key", query_string=query)
    assert answer.status_code == 200, answer.data
    return answer.json


def kids(found: StoredRing) -> list[str]:
    return [entry.key.kid for entry in found.entries()]


def test_one_rotation_over_the_service_is_every_replicas_and_tokens_of_before_stay_good(
    tmp_path: Path, store: str | None
) -> None:
    world = stored(ServiceWorld(tmp_path / "service", store))
    replicas = [ring(world) for _ in range(3)]
    (first,) = kids(replicas[0])
    old = world.client()
    old_token = old.handshake()
    second = rotated(world, after=60, alg="ES384")
    assert (second["erased"], second["file"]) == ([], None)
    assert [kids(replica) for replica in replicas] == [[first, second["kid"]]] * 3
    assert {replica.signer(NOW + timedelta(seconds=59)).kid for replica in replicas} == {first}
    assert {replica.signer(NOW + timedelta(seconds=60)).kid for replica in replicas} == {second["kid"]}
    world.later(minutes=1)
    token = (new := world.client()).handshake()
    assert jwt.get_unverified_header(token) == {"alg": "ES384", "kid": second["kid"], "typ": "JWT"}
    assert (old.resource(PATH, old_token), new.resource(PATH, token)) == (SECRET, SECRET)
    world.later(minutes=5, seconds=1)
    assert rotated(world)["erased"] == [first], "the last token it signed is over"
    (record,) = [entry for entry in world.records("token-key") if entry["subject"] == second["kid"]]
    assert record["outcome"] == "rotated"


def test_a_token_whose_key_was_erased_is_refused(world: ServiceWorld) -> None:
    client = world.client()
    token = client.handshake()
    (first,) = kids(ring(world))
    rotate(world.database, world.keys, 60, ES256, LIFE, world.by)
    with world.database.write() as tx:
        erase(tx, first)
    client.cookie = None
    with pytest.raises(KbsError, match="its key is not known here"):
        client.resource(PATH, token)


def test_a_key_whose_row_was_changed_opens_nowhere_and_the_known_ones_stay(
    world: ServiceWorld, caplog: pytest.LogCaptureFixture
) -> None:
    known, other = ring(world), rotated(world, after=60)["kid"]
    running = ring(world)
    with world.database.write() as tx:
        theirs = tx.execute(token_keys.select().where(token_keys.c.kid == other)).one()
        mine = {"wrapped_key": theirs.wrapped_key, "ciphertext": theirs.ciphertext}
        tx.execute(update(token_keys).where(token_keys.c.kid != other).values(kid="x", **mine))
    with pytest.raises(SealBroken):
        ring(world)
    assert (len(kids(running)), len(kids(known))) == (2, 1)
    assert "the known ones stay" in caplog.text


def test_no_path_reaches_a_key_and_no_list_names_one(world: ServiceWorld) -> None:
    guest, admin = world.client(), world.admin_app().test_client()
    token = guest.handshake()
    (kid,) = kids(ring(world))
    for path in (f"token-key:{kid}", f"token-key:{kid}/x/y", f"a/b/token-key:{kid}"):
        assert guest.get(f"/resource/{path}", token).status in (400, 404)
        assert admin.post(f"/cvm/v0/export/{path}?reason=x").status_code in (400, 404)
    assert kid not in admin.get("/kbs/v0/resource?history=1").text
    assert b"PRIVATE KEY" not in world.admin_app().test_client().get("/cvm/v0/token-key").data
    with world.database.read() as tx:
        (row,) = tx.execute(token_keys.select()).all()
    assert b"PRIVATE KEY" not in bytes(row.ciphertext) + bytes(row.wrapped_key)


def test_a_new_master_key_takes_them_along_and_a_missing_one_is_seen(world: ServiceWorld) -> None:
    both = MasterKeys((SecretBytes(b"m" * 32), SecretBytes(b"n" * 32)))
    assert checks(world.service, world.now)["keys"] == "ok"
    assert (rewrap_all(world.database, both, world.by), rewrap_all(world.database, both, world.by)) == (1, 0)
    newest = MasterKeys((SecretBytes(b"n" * 32),))
    assert kids(StoredRing(world.database, newest)) == kids(ring(replaced(world, newest)))
    with world.database.write() as tx:
        tx.exec_driver_sql("DELETE FROM secrets")
    assert checks(replace(world.service, master_keys=MasterKeys((SecretBytes(b"z" * 32),))), world.now)["keys"] != "ok"


def replaced(world: ServiceWorld, keys: MasterKeys) -> ServiceWorld:
    world.keys = keys
    return world


@pytest.mark.parametrize(
    ("after", "words"), [(-1, "want 0..86400"), (86401, "want 0..86400"), (0, "want a later time")]
)
def test_a_rotation_that_cannot_be_is_refused_and_changes_nothing(world: ServiceWorld, after: int, words: str) -> None:
    before = kids(ring(world))
    with pytest.raises(RequestMalformed, match=words):
        rotate(world.database, world.keys, after, ES256, LIFE, world.by)
    assert kids(ring(world)) == before


def test_there_are_at_most_so_many_keys_and_never_none(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    with pytest.raises(ServiceMisconfigured, match="has none"):
        StoredRing(world.database, world.keys)
    for number in range(MAX_KEYS):
        rotate(world.database, world.keys, number, ES384, LIFE, world.by)
    with pytest.raises(RequestMalformed, match=f"at most {MAX_KEYS}"):
        rotate(world.database, world.keys, 60, ES256, LIFE, world.by)


def test_over_the_service_files_are_not_rotated_and_other_algorithms_are_unknown(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    answer = world.admin_app().test_client().post("/cvm/v0/token-key")
    assert (answer.status_code, "files of each replica" in answer.json["detail"]) == (400, True)
    answer = stored(world).admin_app().test_client().post("/cvm/v0/token-key?alg=HS256")
    assert (answer.status_code, "want ES256 or ES384" in answer.json["detail"]) == (400, True)


def test_the_newest_key_is_due_when_it_has_signed_for_long_enough(world: ServiceWorld) -> None:
    watched = Watched((), None, timedelta(days=365))
    found = Expiries(world.database, world.service.rules, world.service.collateral, watched).at(world.now)
    (kid,) = kids(ring(world))
    assert [(item.name, item.expires) for item in found if item.kind == "token-key"] == [
        (kid, NOW.replace(microsecond=0) + timedelta(days=365))
    ]
