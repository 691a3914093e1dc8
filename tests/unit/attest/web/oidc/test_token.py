"""Bearer tokens with exactly one thing wrong: each is refused, and says what it is."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import jwt
import pytest

from attest.audit.record import Actor
from attest.settings_oidc import ALGORITHMS
from attest.web.oidc.caller import Bearers
from attest.web.oidc.errors import BearerRefused, ProviderUnavailable
from attest.web.oidc.keys import parse_key_set
from attest.web.oidc.token import verify
from tests.fakes.amd_pki import NOW
from tests.fakes.oidc import AUDIENCE, FakeProvider, make_key, public_jwk


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> FakeProvider:
    return FakeProvider(tmp_path_factory.mktemp("oidc"))


def bearers(provider: FakeProvider, **changes: Any) -> Bearers:
    keys = parse_key_set(json.dumps({"keys": provider.keys}).encode())
    return Bearers(provider.settings(**changes), keys.get)


def actor(provider: FakeProvider, token: str, **changes: Any) -> Actor | None:
    return bearers(provider, **changes).actor(token, NOW)


def segments(token: str) -> list[dict[str, Any]]:
    return [json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in token.split(".")[:2]]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_under_each_allowed_algorithm_makes_an_operator(provider: FakeProvider, algorithm: str) -> None:
    kid = provider.rotate(algorithm)
    found = actor(provider, provider.token(NOW, kid=kid))
    assert found == Actor("operator", "olga", issuer=provider.issuer, subject="olga", groups=("ops",))
    others = tuple(name for name in ALGORITHMS if name != algorithm)
    with pytest.raises(BearerRefused, match="alg"):
        actor(provider, provider.token(NOW, kid=kid), algorithms=others)
    provider.rotate()


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"iss": "https://other.example"}, "iss 'https://other.example'"),
        ({"iss": None}, "iss 'None'"),
        ({"aud": "other"}, "aud 'other'"),
        ({"aud": None}, "aud 'None'"),
        ({"aud": {"attest": 1}}, "aud"),
        ({"aud": [AUDIENCE, "other"]}, "azp 'None', want 'attest'"),
        ({"aud": [AUDIENCE, "other"], "azp": "other"}, "azp 'other', want 'attest'"),
        ({"exp": int(NOW.timestamp()) - 30}, "expired"),
        ({"exp": None}, "exp: want a number"),
        ({"exp": "4102444800"}, "exp: want a number"),
        ({"exp": True}, "exp: want a number"),
        ({"exp": int(NOW.timestamp()) + 86401}, "more than 24 hours"),
        ({"iat": None}, "iat: want a number"),
        ({"iat": int(NOW.timestamp()) + 31}, "not valid yet"),
        ({"nbf": int(NOW.timestamp()) + 31}, "not valid yet"),
        ({"nbf": "soon"}, "nbf: want a number"),
        ({"sub": None}, "sub: want 1 to 255"),
        ({"sub": ""}, "sub: want 1 to 255"),
        ({"sub": "x" * 256}, "sub: want 1 to 255"),
        ({"sub": "olga\n"}, "sub: want a name"),
        ({"cnf": {"jkt": "x"}}, "bound to a key"),
    ],
)
def test_a_claim_that_is_wrong_is_named(provider: FakeProvider, claims: dict[str, Any], message: str) -> None:
    with pytest.raises(BearerRefused, match=message):
        actor(provider, provider.token(NOW, **claims))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": [AUDIENCE]},
        {"aud": [AUDIENCE, "other"], "azp": AUDIENCE},
        {"exp": int(NOW.timestamp()) - 29},
        {"iat": int(NOW.timestamp()) + 30, "exp": int(NOW.timestamp()) + 60.5},
        {"nbf": int(NOW.timestamp()) + 30},
        {"azp": "whoever"},
    ],
)
def test_what_is_right_within_the_leeway_counts(provider: FakeProvider, claims: dict[str, Any]) -> None:
    assert actor(provider, provider.token(NOW, **claims)) is not None


def test_with_a_client_in_the_settings_the_token_must_be_made_for_it(provider: FakeProvider) -> None:
    assert actor(provider, provider.token(NOW, azp="cli"), client="cli") is not None
    assert actor(provider, provider.token(NOW, client_id="cli"), client="cli") is not None  # RFC 9068
    for claims in ({}, {"azp": "web"}, {"azp": "web", "client_id": "cli"}):
        with pytest.raises(BearerRefused, match="want 'cli'"):
            actor(provider, provider.token(NOW, **claims), client="cli")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"kid": None}, "kid: want the name"),
        ({"kid": ""}, "kid: want the name"),
        ({"kid": "k" * 256}, "kid: want the name"),
        ({"kid": "../../etc/passwd"}, "no key '../../etc/passwd'"),
        ({"kid": "' OR 1=1 --"}, "no key"),
        ({"typ": "logout+jwt"}, "typ 'logout"),
        ({"typ": "dpop+jwt"}, "typ 'dpop"),
        ({"jku": "https://evil.example/keys"}, "header jku is not taken"),
        ({"x5u": "https://evil.example/cert"}, "header x5u is not taken"),
        ({"x5c": ["MII"]}, "header x5c is not taken"),
        ({"crit": ["exp"]}, "header crit is not taken"),
        ({"zip": "DEF"}, "header zip is not taken"),
    ],
)
def test_a_header_that_asks_for_more_than_a_key_of_ours_is_refused(
    provider: FakeProvider, header: dict[str, Any], message: str
) -> None:
    head = {
        name: value
        for name, value in {"alg": "ES256", "typ": "JWT", "kid": "k1", **header}.items()
        if value is not None
    }
    token = provider.resigned(json.dumps(head).encode(), json.dumps(provider.claims(NOW)).encode())
    with pytest.raises(BearerRefused, match=message):
        actor(provider, token)


def test_a_token_that_brings_its_own_key_is_refused_though_its_signature_fits(provider: FakeProvider) -> None:
    own = make_key("ES256")
    header = {"kid": "k1", "jwk": public_jwk(own, "ES256")}
    with pytest.raises(BearerRefused, match="header jwk is not taken"):
        actor(provider, jwt.encode(provider.claims(NOW), own, algorithm="ES256", headers=header))
    with pytest.raises(BearerRefused, match="Signature verification failed"):
        actor(provider, jwt.encode(provider.claims(NOW), own, algorithm="ES256", headers={"kid": "k1"}))


def test_no_signature_and_one_made_with_the_public_key_as_a_secret_are_refused(provider: FakeProvider) -> None:
    claims = provider.claims(NOW)
    with pytest.raises(BearerRefused, match="alg 'none'"):
        actor(provider, jwt.encode(claims, None, algorithm="none", headers={"kid": "k1"}))
    public = json.dumps(provider.keys[0]).encode()
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in
                  ({"alg": "HS256", "typ": "JWT", "kid": "k1"}, claims))  # fmt: skip
    mac = base64.urlsafe_b64encode(hmac.new(public, head + b"." + body, hashlib.sha256).digest()).rstrip(b"=")
    with pytest.raises(BearerRefused, match="alg 'HS256'"):
        actor(provider, b".".join((head, body, mac)).decode())


def test_a_key_serves_only_its_own_algorithm(provider: FakeProvider) -> None:
    kid = provider.rotate("RS256")
    private, _ = provider.private[kid]
    token = jwt.encode(provider.claims(NOW), private, algorithm="PS256", headers={"kid": kid})
    with pytest.raises(BearerRefused, match="alg PS256, but the key is for RS256"):
        actor(provider, token)
    provider.rotate()


def test_a_changed_payload_and_a_cut_signature_are_refused(provider: FakeProvider) -> None:
    header, payload, signature = provider.token(NOW, roles=["audit"]).split(".")
    other = provider.token(NOW, roles=["ops"]).split(".")[1]
    for text in (f"{header}.{other}.{signature}", f"{header}.{payload}.", f"{header}.{payload}.{signature[:-4]}"):
        with pytest.raises(BearerRefused):
            actor(provider, text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header, payload: (header[:-1] + b',"kid":"k2"}', payload), "appears twice"),
        (lambda header, payload: (header, payload[:-1] + b',"iss":"https://other"}'), "appears twice"),
        (lambda header, payload: (header, payload[:-1] + b',"x":NaN}'), "NaN is not JSON"),
        (lambda header, payload: (header, payload[:-1] + b',"x":' + b"9" * 40 + b"}"), "integer of 40 digits"),
        (lambda header, payload: (header, payload[:-1] + b',"x":' + b"[" * 40 + b"]" * 40 + b"}"), "nested deeper"),
        (lambda header, payload: (header, b"[]"), "want a JSON object"),
        (lambda header, payload: (b"\xff", payload), "not UTF-8"),
        (lambda header, payload: (header, payload + b" " * 9000), "want at most 8000"),
    ],
)
def test_json_that_is_not_strict_is_refused_though_it_is_signed(
    provider: FakeProvider, change: Callable[[bytes, bytes], tuple[bytes, bytes]], message: str
) -> None:
    kid = max(provider.private, key=lambda name: int(name[1:]))
    header = json.dumps({"alg": "ES256", "typ": "JWT", "kid": kid}).encode()
    payload = json.dumps(provider.claims(NOW)).encode()
    assert actor(provider, provider.resigned(header, payload)) is not None
    with pytest.raises(BearerRefused, match=message):
        actor(provider, provider.resigned(*change(header, payload)))


@pytest.mark.parametrize("text", ["", "x", "a.b", "a.b.c.d", "e30.!.x", "....", "A" * 8001])
def test_what_is_no_token_is_refused(provider: FakeProvider, text: str) -> None:
    with pytest.raises(BearerRefused):
        actor(provider, text)


@pytest.mark.parametrize(
    ("roles", "kind"),
    [
        (["ops"], "operator"),
        ("ops", "operator"),
        (["audit"], "auditor"),
        (["audit", "ops", "others"], "operator"),
        (["others"], None),
        ([], None),
        (None, None),
        (["ops "], None),
        (["OPS"], None),
        ("ops audit", None),
        ({"ops": True}, None),
        (7, None),
        ([["ops"]], None),
    ],
)
def test_the_role_claim_and_nothing_else_makes_an_operator(
    provider: FakeProvider, roles: Any, kind: str | None
) -> None:
    found = actor(provider, provider.token(NOW, roles=roles, groups=["ops"], role="ops"))
    assert (None if found is None else found.kind) == kind


def test_the_role_claim_may_lie_deeper(provider: FakeProvider) -> None:
    token = provider.token(NOW, roles=None, realm_access={"roles": ["ops"]})
    assert actor(provider, token, role=("realm_access", "roles")) is not None
    assert actor(provider, token, role=("realm_access", "roles", "ops")) is None


def test_a_person_is_called_by_the_claim_of_the_settings_and_by_another_name_where_they_say_so(
    provider: FakeProvider,
) -> None:
    token = provider.token(NOW, sub="u-17", email="olga@example.org", email_verified=True)
    found = actor(provider, token, name="email")
    assert found == Actor("operator", "olga@example.org", issuer=provider.issuer, subject="u-17", groups=("ops",))
    renamed = actor(provider, token, name="email", people={"olga@example.org": "olga"})
    assert (renamed is not None and renamed.name) == "olga"
    for changes in ({"email_verified": False}, {"email_verified": "true"}, {"email_verified": None}):
        with pytest.raises(BearerRefused, match="not verified"):
            actor(
                provider,
                provider.token(NOW, email="olga@example.org", **{"email_verified": True, **changes}),
                name="email",
            )
    with pytest.raises(BearerRefused, match="email: want a name"):
        actor(provider, provider.token(NOW), name="email")


def test_times_are_compared_with_the_time_given(provider: FakeProvider) -> None:
    own, token = bearers(provider), provider.token(NOW)
    for minutes, good in ((-1, False), (0, True), (10, True), (11, False)):
        now = NOW + timedelta(minutes=minutes)
        if good:
            assert own.actor(token, now) is not None
        else:
            with pytest.raises(BearerRefused):
                own.actor(token, now)


def test_a_provider_that_cannot_be_asked_is_no_fault_of_the_token(provider: FakeProvider) -> None:
    def silent(kid: str) -> None:
        raise ProviderUnavailable("oidc: no answer")

    with pytest.raises(ProviderUnavailable):
        verify(provider.token(NOW), replace(provider.settings()), silent, NOW)
