"""Master keys in the Transit engine: a real OpenBao server wraps, seals itself, forgets tokens and rotates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from attest.broker.rewrapping import rewrap_all
from attest.keys.envelope import Sealed, seal, unseal
from attest.keys.errors import KeyFileRefused, KeyUnavailable, SealBroken
from attest.keys.files import write_private
from attest.keys.master import MasterKeys, load_master_keys, master_key_line, transit_line
from attest.keys.transit_key import TransitKey
from attest.keys.vault import Vault
from attest.keys.vault_settings import load_vault_settings
from attest.store import secrets
from attest.web.health import checks, ready
from policy.secret import SecretBytes
from policy.vocab import ResourcePath
from tests.fakes.bao import Bao, running_bao
from tests.fakes.service_world import PATH, SECRET, ServiceWorld
from tests.fakes.tls_folder import make_tls

VALUE = SecretBytes(b"the value of a resource")


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    with running_bao(tmp_path_factory.mktemp("bao")) as found:
        yield found


def connection(folder: Path, bao: Bao, auth: str, *, ca: Path | None = None) -> Path:
    """The settings file; ``auth`` is its table."""
    path = folder / "vault.toml"
    path.write_text(f'url = "{bao.url}"\nca = "{ca or bao.ca}"\n[auth]\n{auth}\n')
    return path


def secret(folder: Path, name: str, text: str) -> str:
    """A private file; its name for the settings."""
    (folder / name).unlink(missing_ok=True)
    write_private(folder / name, text.encode() + b"\n")
    return name


def by_token(folder: Path, bao: Bao, **more: object) -> Path:
    return connection(folder, bao, f'kind = "token"\nfile = "{secret(folder, "vault.token", bao.token(**more))}"')


def transit(folder: Path, name: str = "cvm") -> TransitKey:
    file = folder / "key.json"
    file.write_text(json.dumps({"connection": "vault.toml", "mount": "transit", "key": name}))
    return transit_line(file.read_bytes(), file)[1]


@pytest.fixture
def key(bao: Bao, tmp_path: Path) -> TransitKey:
    by_token(tmp_path, bao)
    return transit(tmp_path)


def test_the_server_wraps_and_what_it_wrapped_opens_nowhere_else(key: TransitKey) -> None:
    keys = MasterKeys((SecretBytes(b"l" * 32), key))
    sealed = seal(keys, PATH, 1, VALUE)
    assert sealed.master_key_id == key.key_id == keys.newest
    assert key.key_id.startswith("transit-")
    assert len(key.key_id) <= 32
    assert sealed.wrapped_key.startswith(b"vault:v")
    assert unseal(keys, PATH, 1, sealed) == VALUE
    for path, version in ((PATH, 2), (ResourcePath.parse("default/web-2/root"), 1)):
        with pytest.raises(SealBroken):
            unseal(keys, path, version, sealed)
    for wrapped in (sealed.wrapped_key[:-8] + b"AAAAAAAA", b"vault:v1:AAAA", b"vault:v1:", b"", b"\xff" * 60):
        with pytest.raises(SealBroken):
            unseal(keys, PATH, 1, Sealed(key.key_id, wrapped, sealed.ciphertext))


def test_a_new_version_of_the_key_there_wraps_and_rewrap_moves_to_it(bao: Bao, tmp_path: Path) -> None:
    by_token(tmp_path, bao)
    world = ServiceWorld(tmp_path / "service", keys=MasterKeys((transit(tmp_path),)))
    bao.must("POST", "transit/keys/cvm/rotate", {})
    fresh = MasterKeys((transit(tmp_path),))
    assert rewrap_all(world.database, fresh, world.by) == 1
    assert rewrap_all(world.database, fresh, world.by) == 0
    with world.database.read() as tx:
        row = secrets.sealed(tx, PATH)
    assert row is not None
    newest = bao.must("GET", "transit/keys/cvm")["data"]["latest_version"]
    assert row.wrapped_key.startswith(b"vault:v%d:" % newest)
    bao.must("POST", "transit/keys/cvm/config", {"min_decryption_version": newest})
    assert world.client().resource(PATH) == SECRET
    old = Sealed(fresh.newest, row.wrapped_key.replace(b"v%d" % newest, b"v1"), row.ciphertext)
    with pytest.raises(KeyUnavailable, match="version"):
        unseal(fresh, PATH, row.version, old)
    bao.must("POST", "transit/keys/cvm/config", {"min_decryption_version": 1})


def test_guests_are_told_to_come_again_while_it_is_sealed_and_served_afterwards(
    bao: Bao, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    by_token(tmp_path, bao)
    world = ServiceWorld(tmp_path / "service", keys=MasterKeys((transit(tmp_path),)))
    guest = world.client()
    assert guest.resource(PATH) == SECRET
    bao.must("PUT", "sys/seal")
    try:
        reply = guest.get(f"/resource/{PATH}")
        assert (reply.status, reply.json()["code"]) == (503, "vault.sealed")
        found = checks(world.service, world.now)
        assert (found["keys"], ready(found)) == ("vault.sealed", False)
    finally:
        bao.unseal()
    assert guest.resource(PATH) == SECRET
    assert ready(checks(world.service, world.now))
    token = (tmp_path / "vault.token").read_text().strip()
    assert token not in caplog.text
    assert bao.url in caplog.text


def test_a_guest_that_may_not_have_the_key_makes_no_request_to_the_server(
    bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_token(tmp_path, bao)
    world = ServiceWorld(tmp_path / "service", keys=MasterKeys((transit(tmp_path),)))
    world.put(replace=True, only_for=("another",))
    guest = world.client()
    guest.handshake()
    monkeypatch.setattr(Vault, "ask", lambda *words: pytest.fail("asked"))
    assert guest.get(f"/resource/{PATH}").status == 403
    assert world.client().get(f"/resource/{PATH}").status == 401


def test_approle_logs_in_renews_and_logs_in_again_after_a_revocation(bao: Bao, tmp_path: Path) -> None:
    bao.must("POST", "auth/approle/role/cvm", {"token_policies": ["cvm"], "token_ttl": "40s", "token_max_ttl": "60s"})
    role = bao.must("GET", "auth/approle/role/cvm/role-id")["data"]["role_id"]
    secret(tmp_path, "secret-id", bao.must("POST", "auth/approle/role/cvm/secret-id", {})["data"]["secret_id"])
    path = connection(tmp_path, bao, f'kind = "approle"\nrole_id = "{role}"\nsecret_id_file = "secret-id"')
    now = [0.0]
    vault = Vault(load_vault_settings(path), clock=lambda: now[0])
    vault.check()
    first = vault._held
    now[0] = 21.0
    vault.check()
    renewed = vault._held
    assert first is not None
    assert renewed is not None
    assert (renewed.text, renewed.since) == (first.text, 21.0)
    bao.must("POST", "auth/token/revoke", {"token": first.text})
    vault.check()
    assert vault._held is not None
    assert vault._held.text != first.text
    secret(tmp_path, "secret-id", "wrong")
    with pytest.raises(KeyUnavailable, match="logging in by approle: invalid role or secret ID") as caught:
        Vault(load_vault_settings(path)).check()
    assert caught.value.code == "vault.denied"
    assert role not in str(caught.value)


def test_a_client_certificate_logs_in(bao: Bao, tmp_path: Path) -> None:
    certificate, private = bao.client / "client-cert.pem", bao.client / "client-key.pem"
    body = {"certificate": certificate.read_text(), "token_policies": ["cvm"]}
    bao.must("POST", "auth/cert/certs/attest", body)
    auth = f'kind = "cert"\ncertificate = "{certificate}"\nkey = "{private}"\nrole = "attest"'
    connection(tmp_path, bao, auth)
    key = transit(tmp_path)
    key.inspect()
    assert key.unwrap(key.wrap(VALUE, b"x"), b"x", "it") == VALUE


def test_a_replaced_token_file_is_read_again_and_one_that_is_not_accepted_is_said(bao: Bao, tmp_path: Path) -> None:
    by_token(tmp_path, bao)
    key = transit(tmp_path)
    wrapped = key.wrap(VALUE, b"x")
    bao.must("POST", "auth/token/revoke", {"token": (tmp_path / "vault.token").read_text().strip()})
    with pytest.raises(KeyUnavailable, match=r"the token in .*vault\.token is not accepted"):
        key.unwrap(wrapped, b"x", "it")
    secret(tmp_path, "vault.token", bao.token())
    assert key.unwrap(wrapped, b"x", "it") == VALUE


def test_a_token_without_the_right_is_our_fault_and_no_answer(bao: Bao, tmp_path: Path) -> None:
    name = secret(tmp_path, "vault.token", bao.token(policies=["default"]))
    connection(tmp_path, bao, f'kind = "token"\nfile = "{name}"')
    with pytest.raises(KeyUnavailable, match="transit/encrypt/cvm: permission denied") as caught:
        transit(tmp_path).wrap(VALUE, b"x")
    assert caught.value.code == "vault.denied"


def test_a_server_of_another_authority_is_not_spoken_to(bao: Bao, tmp_path: Path) -> None:
    other, _ = make_tls(tmp_path / "other")
    name = secret(tmp_path, "vault.token", "s.secret")
    connection(tmp_path, bao, f'kind = "token"\nfile = "{name}"', ca=other / "ca-cert.pem")
    with pytest.raises(KeyUnavailable, match="certificate is not accepted") as caught:
        transit(tmp_path).wrap(VALUE, b"x")
    assert caught.value.code == "vault.tls"


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("open", {"exportable": True}, "can be read out"),
        ("backup", {"allow_plaintext_backup": True}, "can be read out"),
        ("derived", {"derived": True}, "not derived"),
        ("rsa", {"type": "rsa-2048"}, "rsa-2048, want aes256-gcm96"),
    ],
)
def test_a_key_that_could_leave_or_does_not_bind_is_refused(
    bao: Bao, tmp_path: Path, name: str, body: dict[str, object], said: str
) -> None:
    bao.must("POST", f"transit/keys/{name}", body)
    connection(tmp_path, bao, f'kind = "token"\nfile = "{secret(tmp_path, "vault.token", bao.root)}"')
    with pytest.raises(KeyFileRefused, match=said):
        transit(tmp_path, name).inspect()


def test_the_line_goes_into_the_master_key_file_and_the_move_is_a_rewrap(bao: Bao, tmp_path: Path) -> None:
    by_token(tmp_path, bao)
    file = tmp_path / "key.json"
    file.write_text(json.dumps({"connection": "vault.toml", "mount": "transit", "key": "cvm"}))
    line = transit_line(file.read_bytes(), file)[0].encode() + b"\n"
    local = SecretBytes(b"m" * 32)
    world = ServiceWorld(tmp_path / "service", keys=MasterKeys((local,)))
    write_private(tmp_path / "master.key", master_key_line(local) + line)
    assert rewrap_all(world.database, load_master_keys(tmp_path / "master.key"), world.by) == 1
    (tmp_path / "master.key").unlink()
    write_private(tmp_path / "master.key", line)
    object.__setattr__(world.service, "master_keys", load_master_keys(tmp_path / "master.key"))
    assert world.client().resource(PATH) == SECRET
