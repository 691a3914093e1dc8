"""Values kept in a KV engine: a real OpenBao server gives them, deletes them, destroys them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attest.broker import rotation
from attest.broker.errors import RequestMalformed
from attest.broker.lifecycle import export
from attest.broker.operations import NewResource, put_resource
from attest.keys.errors import KeyFileRefused, KeyUnavailable
from attest.keys.kv import SOURCE, kv_place, read_secret
from attest.keys.vault import Vault
from attest.keys.vault_settings import load_vault_settings
from policy.secret import SecretBytes
from tests.fakes.bao import Bao, running_bao
from tests.fakes.served import Served
from tests.fakes.service_world import PATH, ServiceWorld
from tests.unit.attest.keys.test_transit_key import by_token

PASSWORD = "hunter2 of the shop"


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    with running_bao(tmp_path_factory.mktemp("bao")) as found:
        yield found


@pytest.fixture
def vault(bao: Bao, tmp_path: Path) -> Vault:
    return Vault(load_vault_settings(by_token(tmp_path, bao)))


def store(bao: Bao, path: str, **fields: Any) -> None:
    bao.must("POST", f"secret/data/{path}", {"data": fields})


def linked(folder: Path, vault: Vault, path: str, version: int | None = None) -> ServiceWorld:
    """A service whose resource is kept there."""
    folder.mkdir(exist_ok=True)
    world = ServiceWorld(folder / "service")
    object.__setattr__(world.service, "vault", vault)
    place = kv_place("secret", path, "password", version, encoded=False)
    value = SecretBytes(place.to_bytes())
    put_resource(world.database, world.keys, NewResource(PATH, value, replace=True, source=SOURCE), world.by)
    return world


def refused(world: ServiceWorld, guest: Any) -> str:
    reply = guest.get(f"/resource/{PATH}")
    assert reply.status == 503
    return str(reply.json()["code"])


def test_a_guest_gets_the_value_of_now_and_a_pinned_version_stays(bao: Bao, vault: Vault, tmp_path: Path) -> None:
    store(bao, "shop/db", password=PASSWORD)
    newest, pinned = linked(tmp_path / "a", vault, "shop/db"), linked(tmp_path / "b", vault, "shop/db", 1)
    assert newest.client().resource(PATH) == pinned.client().resource(PATH) == PASSWORD.encode()
    store(bao, "shop/db", password="changed there")
    assert newest.client().resource(PATH) == b"changed there"
    assert pinned.client().resource(PATH) == PASSWORD.encode()


def test_an_operator_links_a_secret_over_the_listener_and_one_that_is_not_there_is_not_linked(
    bao: Bao, vault: Vault, tmp_path: Path
) -> None:
    store(bao, "shop/remote", password=base64.b64encode(PASSWORD.encode()).decode())
    world = ServiceWorld(tmp_path / "service")
    object.__setattr__(world.service, "vault", vault)
    operator, where = world.admin_app().test_client(), f"/cvm/v0/link/{PATH}?field=password&base64=1&replace=1"
    made = operator.post(f"{where}&kv-path=shop/remote&kv-version=1&for=web-1")
    assert made.get_json() == {"path": PATH, "version": 2, "kept": "secret/shop/remote version 1"}
    assert world.client().resource(PATH) == PASSWORD.encode()
    listed = operator.get("/kbs/v0/resource").get_json()["resources"]
    assert [entry["created_by"] for entry in listed if entry["source"]] == [str(world.by.actor)]
    before = world.records()
    for wrong, status in (("kv-path=shop/nothing", 503), ("kv-path=shop/remote&kv-version=9", 503), ("", 400)):
        assert operator.post(f"{where}&{wrong}").status_code == status, wrong
    assert world.records() == before


def test_a_version_that_was_deleted_or_destroyed_is_no_value(
    bao: Bao, vault: Vault, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store(bao, "shop/gone", password=PASSWORD)
    world = linked(tmp_path, vault, "shop/gone", 1)
    guest = world.client()
    assert guest.resource(PATH) == PASSWORD.encode()
    bao.must("POST", "secret/delete/shop/gone", {"versions": [1]})
    assert refused(world, guest) == "vault.no-secret"
    assert "secret secret/shop/gone version 1: was deleted" in caplog.text
    bao.must("PUT", "secret/destroy/shop/gone", {"versions": [1]})
    assert refused(world, guest) == "vault.no-secret"
    assert "was destroyed" in caplog.text
    assert PASSWORD not in caplog.text
    assert len(world.records("release")) == 1, "what was not given is not on record as given"


def test_a_sealed_server_and_one_that_is_not_configured_give_nothing(bao: Bao, vault: Vault, tmp_path: Path) -> None:
    store(bao, "shop/sealed", password=PASSWORD)
    world = linked(tmp_path, vault, "shop/sealed")
    guest = world.client()
    assert guest.resource(PATH) == PASSWORD.encode()
    bao.must("PUT", "sys/seal")
    try:
        assert refused(world, guest) == "vault.sealed"
    finally:
        bao.unseal()
    object.__setattr__(world.service, "vault", None)
    assert refused(world, guest) == "keys.changed"


def test_a_field_is_text_of_a_sensible_size(bao: Bao, vault: Vault) -> None:
    store(
        bao,
        "shop/odd",
        number=7,
        empty="",
        binary=base64.b64encode(b"\0\xff").decode(),
        long="x" * 70_000,
        bad="no base64",
    )
    place = kv_place("secret", "shop/odd", "binary", None, encoded=True)
    assert read_secret(vault, place).reveal() == b"\0\xff"
    for field, encoded in (("number", False), ("empty", False), ("long", False), ("none", False), ("bad", True)):
        with pytest.raises(KeyUnavailable, match=f"field '{field}'") as caught:
            read_secret(vault, kv_place("secret", "shop/odd", field, None, encoded=encoded))
        assert caught.value.code == "vault.no-secret"
    for path, version in (("shop/nothing", None), ("shop/odd", 9)):
        with pytest.raises(KeyUnavailable, match="is not there"):
            read_secret(vault, kv_place("secret", path, "number", version, encoded=False))


@pytest.mark.parametrize(
    ("mount", "path", "field", "version"),
    [("a b", "x", "f", None), ("m", "../x", "f", None), ("m", "/x", "f", None), ("m", "x?y", "f", None),
     ("m", "x/..", "f", None), ("m", "x", "", None), ("m", "x", "f", 0)],
)  # fmt: skip
def test_a_place_that_cannot_be_is_refused(mount: str, path: str, field: str, version: int | None) -> None:
    with pytest.raises(KeyFileRefused):
        kv_place(mount, path, field, version, encoded=False)


def test_what_is_kept_there_is_replaced_and_exported_there(bao: Bao, vault: Vault, tmp_path: Path) -> None:
    store(bao, "shop/there", password=PASSWORD)
    world = linked(tmp_path, vault, "shop/there")
    with pytest.raises(RequestMalformed, match="kept elsewhere"):
        rotation.start(world.database, world.keys, PATH, None, world.by)
    with pytest.raises(RequestMalformed, match="export it there"):
        export(world.database, world.keys, PATH, "moving", world.by)


def test_the_command_links_what_it_can_read_and_nothing_else(bao: Bao, tmp_path: Path) -> None:
    served = Served(tmp_path / "service").init()
    words = ("key", "link", "default/shop/db", "shop/cli", "--field", "password")
    assert "name no server" in served.attest(*words).err
    by_token(served.folder, bao)
    text = served.config.read_text()
    served.config.write_text(text.replace("[keys]\n", '[keys]\nvault = "vault.toml"\n'))
    missing = served.attest(*words)
    assert (missing.code, "secret/shop/cli: is not there" in missing.err) == (8, True), missing.err
    store(bao, "shop/cli", password=PASSWORD)
    done = served.attest(*words, "--json")
    assert json.loads(done.out)["kept"] == "secret/shop/cli", done.err
    listed = served.attest("key", "list").out
    assert "in force, kept in kv" in listed
    assert PASSWORD not in listed
