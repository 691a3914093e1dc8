"""The provider's keys as they come over the network: found, kept, rotated; a provider that fails or lies lets nobody in."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import attest.web.oidc.provider as module
from attest.web.oidc.errors import ProviderUnavailable
from attest.web.oidc.keys import KeySetRefused, parse_key_set
from attest.web.oidc.provider import FRESH_SECONDS, LAST_SECONDS, PAUSE_SECONDS, Provider
from tests.fakes.oidc import DISCOVERY, KEYS, Answer, FakeProvider, make_key, public_jwk


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeProvider]:
    with FakeProvider(tmp_path / "oidc") as found:
        yield found


class Watch:
    """A provider as the service sees it, and a clock that tests turn."""

    def __init__(self, fake: FakeProvider, **changes: Any) -> None:
        self.now = 100.0
        self.provider = Provider(fake.settings(**changes), clock=lambda: self.now)

    def has(self, kid: str) -> bool:
        return self.provider.key(kid) is not None


def test_keys_are_found_by_discovery_and_asked_for_once(fake: FakeProvider) -> None:
    own = Watch(fake)
    assert own.has("k1")
    own.now += FRESH_SECONDS - 1
    assert own.has("k1")
    assert fake.asked == [DISCOVERY, KEYS]
    own.now += 2
    assert own.has("k1")
    assert fake.asked == [DISCOVERY, KEYS] * 2


def test_a_rotation_is_noticed_at_once_and_made_up_names_do_not_make_us_ask_again(fake: FakeProvider) -> None:
    own = Watch(fake)
    assert own.has("k1")
    own.now += PAUSE_SECONDS
    assert own.has(fake.rotate())
    for number in range(50):
        assert not own.has(f"made-up-{number}")
    assert fake.asked == [DISCOVERY, KEYS] * 2
    own.now += PAUSE_SECONDS
    assert not own.has("made-up")
    assert fake.asked == [DISCOVERY, KEYS] * 3


def test_a_key_the_provider_took_away_counts_no_longer_than_we_remember(fake: FakeProvider) -> None:
    own = Watch(fake)
    assert own.has("k1")
    fake.rotate(keep=False)
    assert own.has("k1")
    own.now += FRESH_SECONDS
    assert not own.has("k1")


def test_while_the_provider_is_down_known_keys_count_for_a_while_and_unknown_ones_are_nobodys_fault(
    fake: FakeProvider,
) -> None:
    own = Watch(fake)
    assert own.has("k1")
    fake.answers[DISCOVERY] = Answer(500)
    own.now += LAST_SECONDS - 1
    assert own.has("k1")
    with pytest.raises(ProviderUnavailable, match="answered 500"):
        own.has("k2")
    own.now += 2
    with pytest.raises(ProviderUnavailable, match="answered 500"):
        own.has("k1")
    fake.answers.clear()
    own.now += PAUSE_SECONDS
    assert own.has("k1")


def test_a_provider_that_fails_is_left_alone_for_a_moment(fake: FakeProvider) -> None:
    fake.answers[DISCOVERY] = Answer(500)
    own = Watch(fake)
    for _ in range(5):
        with pytest.raises(ProviderUnavailable, match="answered 500"):
            own.has("k1")
    assert fake.asked == [DISCOVERY]


@pytest.mark.parametrize(
    ("discovery", "message"),
    [
        ({"issuer": "https://other.example"}, "not that of the issuer"),
        ({"issuer": None}, "not that of the issuer"),
        ({"jwks_uri": None}, "want an https URL"),
        ({"jwks_uri": "http://localhost/keys"}, "want an https URL"),
        ({"jwks_uri": "file:///etc/passwd"}, "want an https URL"),
        ({"jwks_uri": "https://user@localhost/keys"}, "want an https URL"),
        ({"jwks_uri": "https://[::1"}, "want an https URL"),
    ],
)
def test_a_discovery_document_that_lies_is_refused(fake: FakeProvider, discovery: dict[str, Any], message: str) -> None:
    fake.discovery = discovery
    with pytest.raises(ProviderUnavailable, match=message):
        Watch(fake).has("k1")


@pytest.mark.parametrize(
    ("path", "answer", "message"),
    [
        (DISCOVERY, Answer(302, headers={"Location": "https://evil.example/"}), "redirects"),
        (KEYS, Answer(301, headers={"Location": "https://evil.example/"}), "redirects"),
        (DISCOVERY, Answer(body=b"{" * 5), "oidc: discovery"),
        (DISCOVERY, Answer(body=b'{"issuer":1,"issuer":2}'), "appears twice"),
        (DISCOVERY, Answer(body=b"[]"), "not that of the issuer"),
        (DISCOVERY, Answer(body=b" " * 70000), "larger than 65536 bytes"),
        (KEYS, Answer(body=b" " * 300000), "larger than 262144 bytes"),
        (KEYS, Answer(404), "answered 404"),
        (KEYS, Answer(body=b"<html>"), "oidc: key set"),
    ],
)
def test_an_answer_that_is_none_lets_nobody_in(fake: FakeProvider, path: str, answer: Answer, message: str) -> None:
    fake.answers[path] = answer
    with pytest.raises(ProviderUnavailable, match=message):
        Watch(fake).has("k1")


@pytest.mark.parametrize("answer", [Answer(delay=30), Answer(drip=0.05)])
def test_a_slow_provider_costs_a_bounded_time(
    fake: FakeProvider, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.4)
    fake.answers[DISCOVERY] = answer
    started = time.monotonic()
    with pytest.raises(ProviderUnavailable, match=r"no complete answer|no answer in time"):
        Watch(fake).has("k1")
    assert time.monotonic() - started < 3


def test_a_provider_under_another_authority_or_name_is_not_believed(fake: FakeProvider, tmp_path: Path) -> None:
    with FakeProvider(tmp_path / "other") as other, pytest.raises(ProviderUnavailable, match=r"(?i)certificate"):
        Watch(fake, ca=other.settings().ca).has("k1")
    with pytest.raises(ProviderUnavailable):
        Watch(fake, ca=None).has("k1")
    assert fake.asked == []


def entries(*changes: dict[str, Any]) -> bytes:
    """A set of one good key, and one for each of ``changes``."""
    good = public_jwk(make_key("ES256"), "ES256", kid="good")
    return json.dumps({"keys": [good, *({**good, "kid": "other", **change} for change in changes)]}).encode()


@pytest.mark.parametrize(
    "change",
    [{"use": "enc"}, {"kty": "oct"}, {"kty": ["EC"]}, {"crv": "P-521"}, {"crv": "secp256k1"}, {"alg": "ES384"},
     {"alg": "none"}, {"kid": 7}, {"key_ops": ["sign"]}, {"key_ops": 5}],
)  # fmt: skip
def test_keys_for_something_else_are_passed_over(change: dict[str, Any]) -> None:
    assert list(parse_key_set(entries(change))) == ["good"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d": "AA"}, "private or symmetric"),
        ({"kty": "oct", "k": "AA"}, "private or symmetric"),
        ({"kid": "good"}, "two keys are named 'good'"),
        ({"x": "AA"}, "key 'other'"),
        ({"y": "%%%"}, "key 'other'"),
        ({"x": 5}, "key 'other'"),
        ({"kty": "RSA", "alg": "RS256", "n": "AA", "e": "AQAB"}, "key 'other'"),
        ({"kty": "RSA", "alg": "RS256", "n": "A" * 2000, "e": "AQAB"}, "2048 to 8192 bits"),
    ],
)
def test_a_set_with_a_key_that_cannot_be_right_is_refused_whole(change: dict[str, Any], message: str) -> None:
    with pytest.raises(KeySetRefused, match=message):
        parse_key_set(entries(change))


def test_short_rsa_keys_and_too_many_keys_are_refused() -> None:
    short = public_jwk(rsa.generate_private_key(65537, 1024), "RS256", kid="short")
    with pytest.raises(KeySetRefused, match="RSA of 1024 bits"):
        parse_key_set(json.dumps({"keys": [short]}).encode())
    with pytest.raises(KeySetRefused, match="65 keys"):
        parse_key_set(json.dumps({"keys": [short] * 65}).encode())
    for data in (b"[]", b"{}", b'{"keys":{}}', b'{"keys":[1]}'):
        with pytest.raises(KeySetRefused, match="list of keys"):
            parse_key_set(data)


def test_a_key_without_alg_fits_what_its_kind_fits() -> None:
    entry = public_jwk(rsa.generate_private_key(65537, 2048), "RS256", kid="r")
    del entry["alg"]
    assert parse_key_set(json.dumps({"keys": [entry]}).encode())["r"].algorithms == ("PS256", "RS256")
    curve = public_jwk(ec.generate_private_key(ec.SECP384R1()), "ES384", kid="e")
    del curve["alg"]
    assert parse_key_set(json.dumps({"keys": [curve]}).encode())["e"].algorithms == ("ES384",)
