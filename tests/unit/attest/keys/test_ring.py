"""The ring of signing keys: rotation without a restart, with overlap, the same on every replica."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest

from attest.keys.errors import KeyFileRefused
from attest.keys.ring import SigningRing, add_key, load_ring, retire_keys
from attest.keys.signing import ES256, ES384, make_signing_key

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Ticks:
    """A monotonic clock that tests turn."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    return folder


def test_a_new_key_is_published_at_once_and_signs_from_its_time(folder: Path) -> None:
    ticks = Ticks()
    old = add_key(folder, NOW)
    replicas = [SigningRing(folder, clock=ticks) for _ in range(3)]
    new = add_key(folder, NOW + 10 * MINUTE, ES384)
    ticks.now += 1
    for ring in replicas:
        assert [key["kid"] for key in ring.jwks()["keys"]] == [old.key.kid, new.key.kid]
        assert ring.signer(NOW + 9 * MINUTE).kid == old.key.kid
        assert ring.signer(NOW + 10 * MINUTE).kid == new.key.kid
        assert ring.find(old.key.kid) is not None


def test_the_folder_is_looked_at_once_a_second_at_most(folder: Path) -> None:
    ticks = Ticks()
    add_key(folder, NOW)
    ring = SigningRing(folder, clock=ticks)
    add_key(folder, NOW + MINUTE)
    ticks.now += 0.99
    assert len(ring.jwks()["keys"]) == 1
    ticks.now += 0.01
    assert len(ring.jwks()["keys"]) == 2


def test_an_old_key_goes_once_no_token_of_its_can_be_alive(folder: Path) -> None:
    first, second = add_key(folder, NOW), add_key(folder, NOW + 10 * MINUTE)
    assert retire_keys(folder, NOW + 15 * MINUTE, 5 * MINUTE) == ()
    erased = retire_keys(folder, NOW + 15 * MINUTE + timedelta(seconds=1), 5 * MINUTE)
    assert [entry.key.kid for entry in erased] == [first.key.kid]
    assert [entry.key.kid for entry in load_ring(folder)] == [second.key.kid]


def test_a_damaged_file_leaves_a_running_ring_as_it_was_and_stops_a_new_one(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ticks = Ticks()
    good = add_key(folder, NOW)
    ring = SigningRing(folder, clock=ticks)
    bad = folder / "20260701T130000Z.key"
    bad.write_bytes(b"half a key")
    bad.chmod(0o600)
    ticks.now += 1
    assert ring.signer(NOW + timedelta(days=1)).kid == good.key.kid
    assert "not read again" in caplog.text
    with pytest.raises(KeyFileRefused, match="not an unencrypted PEM"):
        SigningRing(folder)
    bad.unlink()
    ticks.now += 1
    assert [key["kid"] for key in ring.jwks()["keys"]] == [good.key.kid]


def test_a_folder_that_vanishes_leaves_a_running_ring_as_it_was(folder: Path) -> None:
    ticks = Ticks()
    good = add_key(folder, NOW)
    ring = SigningRing(folder, clock=ticks)
    folder.rename(folder.with_name("away"))
    ticks.now += 1
    assert ring.signer(NOW).kid == good.key.kid


@pytest.mark.parametrize("name", ["token.key", "20260701T120000Z.key.new", ".20260701T120000Z.key", "2026.key"])
def test_files_of_other_names_are_no_keys(folder: Path, name: str) -> None:
    make_signing_key(folder / name)
    with pytest.raises(KeyFileRefused, match="0 keys, want 1"):
        SigningRing(folder)


def test_a_name_that_is_no_time_is_refused(folder: Path) -> None:
    make_signing_key(folder / "20269999T120000Z.key")
    with pytest.raises(KeyFileRefused, match="its name is no time"):
        SigningRing(folder)


def test_a_key_that_others_may_read_is_refused(folder: Path) -> None:
    made = add_key(folder, NOW)
    assert made.path is not None
    made.path.chmod(0o640)
    with pytest.raises(KeyFileRefused, match="mode 0640"):
        SigningRing(folder)


def test_one_key_in_two_files_is_refused(folder: Path) -> None:
    made = add_key(folder, NOW)
    assert made.path is not None
    copy = folder / "20260701T130000Z.key"
    copy.write_bytes(made.path.read_bytes())
    copy.chmod(0o600)
    with pytest.raises(KeyFileRefused, match="one key stands in two files"):
        SigningRing(folder)


def test_a_key_is_never_put_before_the_newest(folder: Path) -> None:
    add_key(folder, NOW)
    for begins in (NOW, NOW - MINUTE):
        with pytest.raises(KeyFileRefused, match="want a later time"):
            add_key(folder, begins)


def test_seventeen_keys_are_too_many(folder: Path) -> None:
    for number in range(16):
        add_key(folder, NOW + number * MINUTE)
    with pytest.raises(KeyFileRefused, match="16 keys already"):
        add_key(folder, NOW + 60 * MINUTE)


def test_a_single_file_is_a_ring_of_one_and_read_again_when_it_is_replaced(tmp_path: Path) -> None:
    ticks = Ticks()
    path = tmp_path / "token.key"
    first = make_signing_key(path)
    ring = SigningRing(path, clock=ticks)
    assert ring.signer(NOW).kid == first.kid
    path.unlink()
    second = make_signing_key(path)
    ticks.now += 1
    assert ring.signer(NOW).kid == second.kid
    assert ring.find(first.kid) is None


@pytest.mark.parametrize("algorithm", [ES256, ES384])
def test_both_algorithms_make_keys_that_other_libraries_verify_with(tmp_path: Path, algorithm: object) -> None:
    from jwcrypto.jwk import JWK
    from jwcrypto.jwt import JWT

    key = make_signing_key(tmp_path / "k", algorithm)  # type: ignore[arg-type]
    token = jwt.encode({"a": 1}, key.private, algorithm=key.algorithm, headers={"kid": key.kid})
    assert json.loads(JWT(jwt=token, key=JWK(**key.jwk)).claims) == {"a": 1}
    assert JWK(**key.jwk).thumbprint() == key.kid
