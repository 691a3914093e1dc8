"""Keys at rest: nothing opens in another place, nothing is read that others can read."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto import jwk

from attest.keys.context import context
from attest.keys.envelope import Sealed, seal, unseal
from attest.keys.errors import KeyFileRefused, SealBroken
from attest.keys.files import read_private, replace_file, write_private
from attest.keys.master import MasterKeys, load_master_keys, master_key_line
from attest.keys.signing import load_signing_key, make_signing_key, thumbprint
from policy.secret import SecretBytes
from policy.vocab import ResourcePath

OLD, NEW = SecretBytes(b"o" * 32), SecretBytes(b"n" * 32)
KEYS = MasterKeys((OLD,))
PATH, OTHER = ResourcePath.parse("a/b/c"), ResourcePath.parse("a/b/d")
VALUE = SecretBytes(b"value")
PARTS = st.lists(st.one_of(st.text(max_size=6), st.binary(max_size=6)), max_size=4)


@given(PARTS, PARTS)
def test_two_contexts_are_equal_only_if_their_values_are(one: list[str | bytes], two: list[str | bytes]) -> None:
    plain = [[part.encode() if isinstance(part, str) else part for part in parts] for parts in (one, two)]
    assert (context("label", *one) == context("label", *two)) == (plain[0] == plain[1])


def test_what_was_sealed_opens_in_its_place() -> None:
    assert unseal(KEYS, PATH, 3, seal(KEYS, PATH, 3, VALUE)) == VALUE


@pytest.mark.parametrize(("path", "version"), [(OTHER, 3), (PATH, 4)])
def test_a_row_copied_to_another_path_or_version_does_not_open(path: ResourcePath, version: int) -> None:
    with pytest.raises(SealBroken):
        unseal(KEYS, path, version, seal(KEYS, PATH, 3, VALUE))


@pytest.mark.parametrize("part", ["wrapped_key", "ciphertext"])
@given(position=st.integers(min_value=0, max_value=32))
def test_a_flipped_bit_does_not_open(part: str, position: int) -> None:
    sealed = seal(KEYS, PATH, 1, VALUE)
    data = bytearray(getattr(sealed, part))
    data[position % len(data)] ^= 1
    broken = {"wrapped_key": sealed.wrapped_key, "ciphertext": sealed.ciphertext, part: bytes(data)}
    with pytest.raises(SealBroken):
        unseal(KEYS, PATH, 1, Sealed(sealed.master_key_id, broken["wrapped_key"], broken["ciphertext"]))


@pytest.mark.parametrize("part", ["wrapped_key", "ciphertext"])
@pytest.mark.parametrize("length", [0, 5, 12, 27])
def test_a_truncated_value_does_not_open(part: str, length: int) -> None:
    sealed = seal(KEYS, PATH, 1, VALUE)
    broken = {"wrapped_key": sealed.wrapped_key, "ciphertext": sealed.ciphertext}
    broken[part] = broken[part][:length]
    with pytest.raises(SealBroken):
        unseal(KEYS, PATH, 1, Sealed(sealed.master_key_id, broken["wrapped_key"], broken["ciphertext"]))


def test_a_rotated_master_key_opens_the_old_and_seals_with_the_new() -> None:
    sealed, rotated = seal(KEYS, PATH, 1, VALUE), MasterKeys((OLD, NEW))
    assert unseal(rotated, PATH, 1, sealed) == VALUE
    assert seal(rotated, PATH, 2, VALUE).master_key_id == rotated.newest != sealed.master_key_id
    with pytest.raises(SealBroken, match="not in the master key file"):
        unseal(MasterKeys((NEW,)), PATH, 1, sealed)


def test_a_master_key_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    write_private(path, master_key_line(OLD) + master_key_line(NEW))
    assert load_master_keys(path).newest == MasterKeys((NEW,)).newest


@pytest.mark.parametrize(
    "content", [b"", b"x", b"cvm-master-key-1 AAAA\n", b"cvm-master-key-2 " + b"A" * 44, b"\xff\n", b"\n"]
)
def test_a_master_key_file_that_is_none_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "master.key"
    write_private(path, content)
    with pytest.raises(KeyFileRefused) as caught:
        load_master_keys(path)
    assert "AAAA" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_file_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    write_private(path, b"x")
    path.chmod(mode)
    with pytest.raises(KeyFileRefused, match="want 0600"):
        read_private(path)


def test_a_systemd_credential_may_be_group_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "master"
    write_private(path, b"x")
    path.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_private(path) == b"x"


def test_links_folders_pipes_and_large_files_are_no_key_files(tmp_path: Path) -> None:
    write_private(tmp_path / "key", b"x")
    (tmp_path / "link").symlink_to(tmp_path / "key")
    os.mkfifo(tmp_path / "pipe", 0o600)
    write_private(tmp_path / "large", bytes(70_000))
    for name in ("link", "pipe", "large", ".", "missing"):
        with pytest.raises(KeyFileRefused):
            read_private(tmp_path / name)


def test_a_private_file_is_never_overwritten_and_born_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "key"
    old = os.umask(0)
    try:
        write_private(path, b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(KeyFileRefused):
        write_private(path, b"y")
    assert path.read_bytes() == b"x"


def test_a_replaced_file_is_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "policy").write_bytes(b"old")
    replace_file(tmp_path / "policy", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("policy", b"new")]


def test_a_token_key_is_named_by_its_thumbprint_as_others_compute_it(tmp_path: Path) -> None:
    made = make_signing_key(tmp_path / "token.key")
    loaded = load_signing_key(tmp_path / "token.key")
    assert made.kid == loaded.kid == jwk.JWK.from_json(json.dumps(made.jwk)).thumbprint()
    token = jwt.encode({"a": 1}, loaded.private, algorithm="ES256")
    assert jwt.decode(token, jwt.PyJWK(made.jwks()["keys"][0]), algorithms=["ES256"]) == {"a": 1}


def test_the_thumbprint_is_that_of_rfc_7638_for_ec_keys() -> None:
    # RFC 8037 and 7638 give no EC example; jwcrypto is the second opinion for a fixed key.
    key = {"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}  # fmt: skip
    assert thumbprint(key) == jwk.JWK(**key).thumbprint() == "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"


@pytest.mark.parametrize("kind", ["rsa", "p521", "garbage"])
def test_a_token_key_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    data = b"garbage"
    if kind != "garbage":
        key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP521R1())
        data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(tmp_path / "token.key", data)
    with pytest.raises(KeyFileRefused):
        load_signing_key(tmp_path / "token.key")
