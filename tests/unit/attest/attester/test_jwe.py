"""Opening a JWE: against an independent library, and with one thing wrong at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto import jwe, jwk

from attest.attester.errors import ServiceMalformed
from attest.attester.jwe import GuestKey, b64url

SECRET = bytes(range(32))
MEMBERS = ("protected", "encrypted_key", "iv", "ciphertext", "tag")
KEY = GuestKey()


def wrapped(key: GuestKey, secret: bytes = SECRET, *, public: dict[str, str] | None = None, **header: str) -> Any:
    """What a service makes with jwcrypto: the compact form has the header as the real client spells it."""
    names = {"alg": "ECDH-ES+A256KW", "enc": "A256GCM"} | header
    recipient = jwk.JWK(**{n: v for n, v in (public or key.jwk()).items() if n != "alg"})
    token = jwe.JWE(secret, json.dumps(names, separators=(",", ":")), recipient=recipient)
    return dict(zip(MEMBERS, token.serialize(compact=True).split("."), strict=True))


def test_what_another_library_wraps_to_our_key_is_opened() -> None:
    assert KEY.open(wrapped(KEY)).reveal() == SECRET


@given(st.binary(max_size=300))
def test_any_secret_comes_back(secret: bytes) -> None:
    assert KEY.open(wrapped(KEY, secret)).reveal() == secret


def test_the_public_key_is_of_the_protocols_form() -> None:
    public = GuestKey().jwk()
    assert {n: public[n] for n in ("kty", "crv", "alg")} == {"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW"}
    assert len(public["x"]) == len(public["y"]) == 43


def test_two_handshakes_have_two_keys() -> None:
    assert GuestKey().jwk() != GuestKey().jwk()


def test_a_secret_for_another_guest_is_refused() -> None:
    with pytest.raises(ServiceMalformed, match="not wrapped to this guest"):
        KEY.open(wrapped(GuestKey()))


def _header(**changes: object) -> Callable[[dict[str, str]], dict[str, str]]:
    def change(message: dict[str, str]) -> dict[str, str]:
        raw = message["protected"]
        header = json.loads(jwe.base64url_decode(raw)) | changes
        kept = {name: value for name, value in header.items() if value is not None}
        return message | {"protected": b64url(json.dumps(kept, separators=(",", ":")).encode())}

    return change


def _flip(name: str) -> Callable[[dict[str, str]], dict[str, str]]:
    def change(message: dict[str, str]) -> dict[str, str]:
        first = "B" if message[name][0] == "A" else "A"
        return message | {name: first + message[name][1:]}

    return change


def _without(name: str) -> Callable[[dict[str, str]], dict[str, str]]:
    return lambda message: {key: value for key, value in message.items() if key != name}


BROKEN: list[tuple[str, Callable[[dict[str, str]], dict[str, str]], str]] = [
    ("a flipped ciphertext", _flip("ciphertext"), "tag does not match"),
    ("a flipped tag", _flip("tag"), "tag does not match"),
    ("a flipped iv", _flip("iv"), "tag does not match"),
    ("a flipped key", _flip("encrypted_key"), "not wrapped"),
    ("a short tag", lambda m: m | {"tag": m["tag"][:16]}, "want 40, 12, 16"),
    ("no tag", _without("tag"), "exactly the members"),
    ("an aad member", lambda m: m | {"aad": "AAAA"}, "exactly the members"),
    ("padding", lambda m: m | {"iv": m["iv"] + "="}, "base64url"),
    ("stray bits", lambda m: m | {"tag": m["tag"][:-1] + "B"}, "stray bits"),
    ("another algorithm", _header(alg="dir"), "want ECDH-ES+A256KW"),
    ("another encryption", _header(enc="A128GCM"), "want ECDH-ES+A256KW, A256GCM"),
    ("an agreement party", _header(apu="AAAA"), "exactly the members alg, enc, epk"),
    ("a critical member", _header(crit=["exp"]), "exactly the members alg, enc, epk"),
    ("compression", _header(zip="DEF"), "exactly the members alg, enc, epk"),
    ("no epk", _header(epk=None), "exactly the members alg, enc, epk"),
    ("an epk on another curve", _header(epk={"crv": "P-384", "kty": "EC", "x": "", "y": ""}), "P-256"),
    (
        "an epk off the curve",
        _header(epk={"crv": "P-256", "kty": "EC", "x": "A" * 43, "y": "A" * 43}),
        "point on P-256",
    ),
    ("a short epk", _header(epk={"crv": "P-256", "kty": "EC", "x": "AAAA", "y": "AAAA"}), "want 32"),
    ("a header that is a list", lambda m: m | {"protected": b64url(b"[]")}, "exactly the members alg, enc, epk"),
    ("a header that is not JSON", lambda m: m | {"protected": b64url(b"x")}, "not JSON"),
]


@pytest.mark.parametrize(("change", "said"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_message_with_one_thing_wrong_is_refused(
    change: Callable[[dict[str, str]], dict[str, str]], said: str
) -> None:
    with pytest.raises(ServiceMalformed, match=said.replace("+", r"\+")):
        KEY.open(change(wrapped(KEY)))


def test_a_header_in_another_order_fails_as_it_does_with_the_real_client() -> None:
    """The client authenticates its own spelling of the header, so the bytes sent must be that spelling."""
    message = wrapped(KEY)
    header = json.loads(jwe.base64url_decode(message["protected"]))
    other = b64url(json.dumps(dict(reversed(header.items())), separators=(",", ":")).encode())
    assert KEY.open(message | {"protected": other}).reveal() == SECRET  # received bytes do not matter to it …
    spaced = wrapped(KEY)
    spaced["protected"] = b64url(json.dumps(header).encode())
    with pytest.raises(ServiceMalformed):  # … and a tag made over another header never matches
        KEY.open(spaced)


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_any_json_raises_our_error_and_nothing_else(value: object) -> None:
    with pytest.raises(ServiceMalformed):
        KEY.open(value)


@given(st.fixed_dictionaries({name: st.text("abcXYZ019-_=", max_size=60) for name in MEMBERS}))
def test_any_members_raise_our_error_and_nothing_else(value: dict[str, str]) -> None:
    with pytest.raises(ServiceMalformed):
        KEY.open(value)
