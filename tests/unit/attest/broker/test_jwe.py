"""The JWE real clients open: exact header, own implementation, two other readers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jwcrypto import jwe as other_jwe
from jwcrypto import jwk as other_jwk

from attest.broker.errors import RequestMalformed, RequestUnsupported
from attest.broker.jwe import encrypt
from attest.broker.jwk import parse_tee_pubkey
from policy.secret import SecretBytes
from tests.fakes.kbs_client import TeeKey, decode, encode

KEYS = {kind: TeeKey(kind) for kind in ("P-256", "P-521", "RSA")}
MEMBERS = ["protected", "encrypted_key", "iv", "ciphertext", "tag"]


def wrapped(kind: str, value: bytes = b"value") -> dict[str, str]:
    return encrypt(parse_tee_pubkey(KEYS[kind].jwk), SecretBytes(value))


@pytest.mark.parametrize("kind", KEYS)
@given(value=st.binary(max_size=200))
@settings(max_examples=15, deadline=None)
def test_the_model_of_the_real_client_opens_what_we_wrap(kind: str, value: bytes) -> None:
    assert KEYS[kind].decrypt(wrapped(kind, value)) == value


@pytest.mark.parametrize("kind", KEYS)
def test_jwcrypto_opens_what_we_wrap(kind: str) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = KEYS[kind].private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    message = other_jwe.JWE()
    message.deserialize(json.dumps(wrapped(kind)), key=other_jwk.JWK.from_pem(pem))
    assert message.payload == b"value"


@pytest.mark.parametrize("kind", ["P-256", "P-521"])
def test_the_protected_header_is_spelled_exactly_as_the_client_spells_it(kind: str) -> None:
    header = decode(wrapped(kind)["protected"]).decode()
    epk = json.loads(header)["epk"]
    x, y = epk["x"], epk["y"]
    point = f'"x":"{x}","y":"{y}"'
    assert header == f'{{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{{"crv":"{kind}","kty":"EC",{point}}}}}'
    assert {len(decode(epk[name])) for name in "xy"} == {32 if kind == "P-256" else 66}


def test_the_rsa_header_names_nothing_but_the_algorithms() -> None:
    assert decode(wrapped("RSA")["protected"]) == b'{"alg":"RSA-OAEP-256","enc":"A256GCM"}'


@pytest.mark.parametrize("kind", KEYS)
def test_all_five_members_are_there_and_no_other(kind: str) -> None:
    found = wrapped(kind)
    assert list(found) == MEMBERS
    assert len(decode(found["iv"])) == 12
    assert len(decode(found["tag"])) == 16


def test_two_wrappings_share_nothing() -> None:
    first, second = wrapped("P-256"), wrapped("P-256")
    assert all(first[name] != second[name] for name in MEMBERS)


def changed(kind: str, **members: Any) -> dict[str, Any]:
    return {name: value for name, value in {**KEYS[kind].jwk, **members}.items() if value is not None}


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(changed("RSA", alg="RSA1_5"), id="RSA1_5 is an oracle"),
        pytest.param(changed("P-256", alg="ECDH-ES"), id="direct agreement"),
        pytest.param(changed("P-256", crv="P-384"), id="a curve clients do not know"),
        pytest.param({"kty": "OKP", "crv": "X25519", "x": "AA"}, id="another key type"),
        pytest.param({"kty": "oct", "k": "AA"}, id="a symmetric key"),
    ],
)
def test_a_key_that_is_not_offered_is_unsupported(key: dict[str, Any]) -> None:
    with pytest.raises(RequestUnsupported):
        parse_tee_pubkey(key)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(None, id="nothing"),
        pytest.param([], id="no object"),
        pytest.param(changed("P-256", x=None), id="no x"),
        pytest.param(changed("P-256", x=1), id="x is a number"),
        pytest.param(changed("P-256", x=KEYS["P-256"].jwk["x"] + "="), id="padded"),
        pytest.param(changed("P-256", x=KEYS["P-256"].jwk["x"][:-1] + "!"), id="not base64url"),
        pytest.param(changed("P-256", x=encode(bytes(33))), id="too wide"),
        pytest.param(changed("P-256", x=encode(bytes(31))), id="too narrow"),
        pytest.param(changed("P-256", x=encode(bytes(32))), id="not on the curve"),
        pytest.param(changed("P-256", crv="P-521"), id="coordinates of another curve"),
        pytest.param(changed("P-256", x=encode(bytes(32)), y=encode(bytes(32))), id="the point zero"),
        pytest.param(changed("RSA", n=encode(b"\xff" * 128)), id="1024 bits"),
        pytest.param(changed("RSA", n=encode(b"\xff" * 1025)), id="8200 bits"),
        pytest.param(changed("RSA", e=encode(b"\x03")), id="exponent 3"),
        pytest.param(changed("RSA", e=encode(b"\x01\x00\x00")), id="even exponent"),
        pytest.param(changed("RSA", e="AAEAAQ"), id="leading zero"),
        pytest.param(changed("RSA", n=encode(b"\xff" * 255 + b"\xfe")), id="even modulus"),
    ],
)
def test_a_key_that_is_none_is_malformed(key: object) -> None:
    with pytest.raises(RequestMalformed):
        parse_tee_pubkey(key)


def test_members_the_protocol_does_not_know_are_not_part_of_the_key() -> None:
    assert parse_tee_pubkey({**KEYS["P-256"].jwk, "kid": "x", "key_ops": []}).members == KEYS["P-256"].jwk
