"""A master key in a PKCS#11 token, and rotation of master keys: SoftHSM2 does the cryptography, started for real."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from attest.broker.rewrapping import rewrap_all
from attest.keys.envelope import Sealed, rewrap, seal, unseal
from attest.keys.errors import KeyFileRefused, KeyUnavailable, SealBroken
from attest.keys.files import write_private
from attest.keys.master import MasterKeys, load_master_keys, master_key_line, token_line
from attest.keys.token_key import TokenKey, TokenPlace
from attest.store import secrets
from policy.secret import SecretBytes
from policy.vocab import ResourcePath
from tests.fakes import softhsm
from tests.fakes.service_world import PATH, SECRET, ServiceWorld

LOCAL = SecretBytes(b"l" * 32)
VALUE = SecretBytes(b"the value of a resource")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One token for the module: the library keeps what it found when it was first loaded."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("hsm")
        module = softhsm.configure(folder, patch)
        softhsm.make_token("attest")
        (folder / "key.json").write_text(softhsm.description(module, folder))
        line, key = token_line((folder / "key.json").read_bytes(), folder / "key.json")
        key.make()
        (folder / "line").write_text(line)
        yield folder


@pytest.fixture
def key(folder: Path) -> TokenKey:
    return token_line((folder / "key.json").read_bytes(), folder / "key.json")[1]


def keys_file(path: Path, *lines: str | bytes) -> Path:
    path.unlink(missing_ok=True)
    write_private(path, b"".join(line if isinstance(line, bytes) else line.encode() + b"\n" for line in lines))
    return path


def test_the_token_wraps_and_unwraps_and_the_wrapped_key_opens_nowhere_else(key: TokenKey) -> None:
    keys = MasterKeys((LOCAL, key))
    sealed = seal(keys, PATH, 1, VALUE)
    assert sealed.master_key_id == key.key_id == keys.newest
    assert re.fullmatch(r"pkcs11-[0-9a-f]{16}", key.key_id)
    assert unseal(keys, PATH, 1, sealed) == VALUE
    for path, version in ((PATH, 2), (ResourcePath.parse("default/web-2/root"), 1)):
        with pytest.raises(SealBroken):
            unseal(keys, path, version, sealed)


@pytest.mark.parametrize("position", [0, 12, 43, -1])
def test_a_changed_wrapped_key_does_not_open(key: TokenKey, position: int) -> None:
    keys = MasterKeys((key,))
    sealed = seal(keys, PATH, 1, VALUE)
    data = bytearray(sealed.wrapped_key)
    data[position] ^= 1
    for broken in (bytes(data), sealed.wrapped_key[:20], b""):
        with pytest.raises(SealBroken):
            unseal(keys, PATH, 1, Sealed(sealed.master_key_id, broken, sealed.ciphertext))
    assert unseal(keys, PATH, 1, sealed) == VALUE, "the session is good after refusals"


def test_the_key_cannot_be_read_out_of_the_token(key: TokenKey, folder: Path) -> None:
    import pkcs11

    key.wrap(SecretBytes(b"x" * 32), b"")
    handle = key._key
    with pytest.raises(pkcs11.exceptions.PKCS11Error):
        handle[pkcs11.Attribute.VALUE]


def test_a_key_that_could_be_read_out_is_refused(key: TokenKey, folder: Path) -> None:
    import pkcs11

    key.wrap(LOCAL, b"")  # logs this process in
    library = pkcs11.lib(str(key._place.module))
    with library.get_token(token_label="attest").open(rw=True) as session:
        template = {pkcs11.Attribute.SENSITIVE: False, pkcs11.Attribute.EXTRACTABLE: True}
        session.generate_key(pkcs11.KeyType.AES, 256, label="open", store=True, template=template)
    place = key._place
    with pytest.raises(KeyFileRefused, match="can be read out"):
        TokenKey(TokenPlace(place.module, place.token, "open", place.pin_file)).wrap(LOCAL, b"")


def test_a_forked_worker_uses_a_session_of_its_own(key: TokenKey) -> None:
    sealed = key.wrap(LOCAL, b"bound")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if key.unwrap(sealed, b"bound", "x") == LOCAL else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert key.unwrap(sealed, b"bound", "x") == LOCAL


def test_a_key_is_made_once(key: TokenKey) -> None:
    with pytest.raises(KeyFileRefused, match="has a key 'master-1' already"):
        key.make()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"key": "other"}, KeyFileRefused),
        ({"token": "other"}, KeyUnavailable),
        ({"module": Path("/nowhere.so")}, KeyUnavailable),
        ({"pin_file": Path("/nowhere.pin")}, KeyFileRefused),
    ],
)
def test_a_token_that_is_not_there_is_said_and_is_not_a_broken_seal(
    key: TokenKey, change: dict[str, object], error: type[Exception]
) -> None:
    place = key._place
    parts = {"module": place.module, "token": place.token, "key": place.key, "pin_file": place.pin_file, **change}
    with pytest.raises(error):
        TokenKey(TokenPlace(**parts)).unwrap(b"x" * 60, b"", "x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["{}", "[]", "x", '{"module": 1, "token": "a", "key": "b", "pin_file": "c"}', '{"module": "a"}']
)
def test_a_token_line_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(KeyFileRefused, match="line 1"):
        load_master_keys(keys_file(tmp_path / "master.key", f"pkcs11-1 {text}"))


def test_a_service_moves_to_the_token_without_a_restart_and_forgets_the_file_key(
    folder: Path, tmp_path: Path, store: str | None
) -> None:
    """File key, then both, then everything rewrapped, then the token alone: guests get the value all the way."""
    path = keys_file(tmp_path / "master.key", master_key_line(LOCAL))
    clock = iter(range(10_000))
    keys = MasterKeys([LOCAL], path, clock=lambda: next(clock) * 2.0)
    world = ServiceWorld(tmp_path / "service", store, keys=keys)
    client = world.client()
    assert client.resource(PATH) == SECRET
    line = (folder / "line").read_text()
    keys_file(path, master_key_line(LOCAL), line)
    assert keys.newest.startswith("pkcs11-")
    assert client.resource(PATH) == SECRET
    other = load_master_keys(path)
    assert (rewrap_all(world.database, other, world.by), rewrap_all(world.database, other, world.by)) == (1, 0)
    keys_file(path, line)
    assert client.resource(PATH) == SECRET
    with world.database.read() as tx:
        assert secrets.master_key_ids(tx) == (keys.newest,)
    assert [record["kind"] for record in world.records("keys-rewrap")] == ["keys-rewrap"]
    with pytest.raises(SealBroken):
        keys.get(MasterKeys([LOCAL]).newest)


def test_a_rewrap_that_fails_on_one_resource_changes_none(tmp_path: Path, store: str | None) -> None:
    world = ServiceWorld(tmp_path / "service", store)
    world.put(ResourcePath.parse("default/web-9/root"), b"another")
    with world.database.write() as tx:
        row = secrets.sealed(tx, "default/web-9/root")
        assert row is not None
        secrets.rewrapped(tx, row, row.master_key_id, bytes(60))
        before = [(one.path, one.master_key_id, one.wrapped_key) for one in secrets.all_sealed(tx)]
    rotated = MasterKeys((SecretBytes(b"m" * 32), LOCAL))
    with pytest.raises(SealBroken, match="web-9"):
        rewrap_all(world.database, rotated, world.by)
    with world.database.read() as tx:
        assert [(one.path, one.master_key_id, one.wrapped_key) for one in secrets.all_sealed(tx)] == before


def test_a_key_file_that_breaks_while_the_service_runs_leaves_the_known_keys(tmp_path: Path) -> None:
    path = keys_file(tmp_path / "master.key", master_key_line(LOCAL))
    clock = iter(range(100))
    keys = MasterKeys([LOCAL], path, clock=lambda: next(clock) * 2.0)
    known = keys.newest
    keys_file(path, "half a li")
    assert keys.newest == known
    path.unlink()
    assert keys.newest == known


def test_rewrapping_keeps_the_ciphertext_and_the_old_wrapped_key_stays_good_under_the_old_key() -> None:
    old = MasterKeys((LOCAL,))
    sealed = seal(old, PATH, 1, VALUE)
    both = MasterKeys((LOCAL, SecretBytes(b"n" * 32)))
    again = rewrap(both, PATH, 1, sealed)
    assert again.ciphertext == sealed.ciphertext
    assert unseal(both, PATH, 1, again) == unseal(old, PATH, 1, sealed) == VALUE
