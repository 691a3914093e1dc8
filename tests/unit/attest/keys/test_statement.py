"""Signatures on policies and reference values: each rule with exactly one thing broken."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from attest.keys.errors import KeyFileRefused
from attest.keys.statement import (
    POLICY,
    REFERENCE,
    PrivateKey,
    SignatureRefused,
    Signed,
    Signers,
    envelope,
    key_id,
    load_private,
    load_public,
    pae,
    sign,
    unwrap,
)

ALICE, BOB, MALLORY = Ed25519PrivateKey.generate(), generate_private_key(SECP384R1()), Ed25519PrivateKey.generate()
TEXT = b'schema = 1\nname = "x"\n'


def signers(*keys: PrivateKey, needed: int = 1) -> Signers:
    return Signers(tuple((key_id(key.public_key()), key.public_key()) for key in keys), needed)


def signed(*keys: PrivateKey, data: bytes = TEXT, kind: str = POLICY) -> Signed:
    return Signed(data, tuple(sign(key, kind, data) for key in keys))


def test_both_algorithms_are_accepted_and_named() -> None:
    for key in (ALICE, BOB):
        assert signers(ALICE, BOB).check(signed(key), POLICY, "p") == (key_id(key.public_key()),)


def test_what_is_signed_is_the_encoding_of_dsse() -> None:
    """The example of the DSSE 1.0.2 text."""
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_without_keys_nothing_is_demanded() -> None:
    assert Signers().check(Signed(TEXT), POLICY, "p") == ()


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (lambda: Signed(TEXT), "signature.refused"),
        (lambda: signed(MALLORY), "signature.refused"),
        (lambda: Signed(TEXT + b"#", signed(ALICE).signatures), "signature.wrong"),
        (lambda: signed(ALICE, kind=REFERENCE), "signature.wrong"),
        (lambda: Signed(TEXT, ((key_id(ALICE.public_key()), sign(MALLORY, POLICY, TEXT)[1]),)), "signature.wrong"),
        (lambda: Signed(TEXT, ((key_id(BOB.public_key()), b"\0" * 96),)), "signature.wrong"),
    ],
    ids=["unsigned", "strangers", "changed", "other kind", "wrong key", "no DER"],
)
def test_a_file_that_is_not_signed_by_an_operator_is_refused(given: Callable[[], Signed], code: str) -> None:
    with pytest.raises(SignatureRefused) as caught:
        signers(ALICE, BOB).check(given(), POLICY, "policy x")
    assert caught.value.code == code


def test_two_of_two_need_two_different_keys() -> None:
    both = signers(ALICE, BOB, needed=2)
    assert len(both.check(signed(ALICE, BOB), POLICY, "p")) == 2
    for file in (signed(ALICE), signed(ALICE, ALICE), signed(ALICE, MALLORY)):
        with pytest.raises(SignatureRefused, match="signed by 1 of the operators' keys, want 2 of 2"):
            both.check(file, POLICY, "p")


def test_an_envelope_holds_its_file_and_a_detached_one_stands_beside_it() -> None:
    file = signed(ALICE, BOB)
    assert unwrap(envelope(POLICY, file, detached=False), POLICY) == file
    assert unwrap(TEXT, POLICY, envelope(POLICY, file, detached=True)) == file
    assert unwrap(TEXT, POLICY) == Signed(TEXT)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"payloadType": REFERENCE}, "payloadType"),
        ({"signatures": []}, "want a list of 1 to 16"),
        ({"signatures": [{"keyid": "a", "sig": "AA=="}] * 17}, "want a list of 1 to 16"),
        ({"signatures": [{"keyid": "a"}]}, "exactly keyid and sig"),
        ({"signatures": [{"keyid": "a", "sig": "!"}]}, "not base64"),
        ({"payload": 1}, "not base64"),
        ({"extra": 1}, "want an object"),
    ],
)
def test_an_envelope_that_is_none_is_refused(change: dict[str, object], text: str) -> None:
    body = json.loads(envelope(POLICY, signed(ALICE), detached=False)) | change
    with pytest.raises(SignatureRefused, match=text):
        unwrap(json.dumps(body).encode(), POLICY)


def test_a_detached_signature_in_place_of_the_file_is_refused() -> None:
    with pytest.raises(SignatureRefused, match="belongs beside its file"):
        unwrap(envelope(POLICY, signed(ALICE), detached=True), POLICY)


def test_a_signature_file_with_another_payload_is_refused() -> None:
    body = json.loads(envelope(POLICY, signed(ALICE), detached=True))
    body["payload"] = base64.b64encode(b"other").decode()
    with pytest.raises(SignatureRefused, match="not the file beside it"):
        unwrap(TEXT, POLICY, json.dumps(body).encode())


def test_key_files_are_read_and_others_refused(tmp_path: Path) -> None:
    for name, key in (("a", ALICE), ("b", BOB), ("c", generate_private_key(SECP256R1()))):
        private = tmp_path / f"{name}.key"
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        private.chmod(0o600)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / f"{name}.pub").write_bytes(public)
    loaded = Signers.load([tmp_path / "a.pub", tmp_path / "b.pub"], 1)
    for name in "ab":
        key_id_of, value = sign(load_private(tmp_path / f"{name}.key"), POLICY, TEXT)
        assert loaded.check(Signed(TEXT, ((key_id_of, value),)), POLICY, "p") == (key_id_of,)
    for load, path in ((load_public, tmp_path / "c.pub"), (load_private, tmp_path / "c.key")):
        with pytest.raises(KeyFileRefused, match="want Ed25519 or EC on P-384"):
            load(path)
    with pytest.raises(KeyFileRefused, match="not a PEM public key"):
        load_public(tmp_path / "a.key")
    with pytest.raises(KeyFileRefused, match="one key stands in two files"):
        Signers.load([tmp_path / "a.pub", tmp_path / "a.pub"], 1)
