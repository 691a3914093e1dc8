"""The protocol client against any answer at all, without a network."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest.attester.errors import Refused, SecretNotFound, ServiceMalformed, ServiceUnavailable, SessionLost
from attest.attester.https import Answer
from attest.attester.jwe import GuestKey
from attest.attester.kbs import MAX_REASON, MAX_REASONS, Challenge, KbsClient, token_status
from policy.errors import CvmError
from policy.vocab import ResourcePath

NONCE = "A" * 43 + "="
PATH = ResourcePath("default/demo/root")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode())


class Canned:
    """A transport with one answer for everything; keeps what was asked."""

    def __init__(self, status: int = 200, body: bytes = b"{}", cookie: str | None = "kbs-session-id=x") -> None:
        self.answer = Answer(status, body, cookie)
        self.asked: list[tuple[str, str, bytes | None, str | None]] = []

    def send(self, method: str, path: str, body: bytes | None, cookie: str | None) -> Answer:
        self.asked.append((method, path, body, cookie))
        return self.answer


def _ok(document: object) -> Canned:
    return Canned(body=json.dumps(document).encode())


def test_the_three_requests_are_spelt_as_the_protocol_says() -> None:
    transport = _ok({"nonce": NONCE, "extra-params": ""})
    client = KbsClient(transport)
    assert client.challenge("snp") == Challenge(NONCE, "sha384")
    method, path, body, cookie = transport.asked[0]
    assert (method, path, cookie) == ("POST", "/kbs/v0/auth", None)
    assert json.loads(body or b"") == {
        "version": "0.4.0",
        "tee": "snp",
        "extra-params": {"supported-hash-algorithms": ["sha256", "sha384", "sha512"]},
    }
    transport.answer = Answer(200, b'{"token":"a.b.c"}', None)
    assert client.attest(Challenge(NONCE, "sha384"), {"kty": "EC"}, {"attestation_report": {}}) == "a.b.c"
    method, path, body, cookie = transport.asked[1]
    assert (method, path, cookie) == ("POST", "/kbs/v0/attest", "kbs-session-id=x")
    assert json.loads(body or b"") == {
        "init-data": None,
        "runtime-data": {"nonce": NONCE, "tee-pubkey": {"kty": "EC"}},
        "tee-evidence": {"primary_evidence": {"attestation_report": {}}, "additional_evidence": ""},
    }
    transport.answer = Answer(200, b"{}", None)
    client.resource(PATH)
    assert transport.asked[2] == ("GET", "/kbs/v0/resource/default/demo/root", None, "kbs-session-id=x")


@pytest.mark.parametrize(("chosen", "algorithm"), [("sha256", "sha256"), ("SHA512", "sha512")])
def test_the_service_may_choose_the_hash(chosen: str, algorithm: str) -> None:
    transport = _ok({"nonce": NONCE, "extra-params": {"selected-hash-algorithm": chosen}})
    assert KbsClient(transport).challenge("snp").algorithm == algorithm


@pytest.mark.parametrize("chosen", ["sm3", "md5", 1, None])
def test_a_hash_we_cannot_compute_is_refused(chosen: object) -> None:
    transport = _ok({"nonce": NONCE, "extra-params": {"selected-hash-algorithm": chosen}})
    with pytest.raises(ServiceMalformed, match="hash algorithm"):
        KbsClient(transport).challenge("snp")


@pytest.mark.parametrize("nonce", ["", "A" * 44, "A" * 42 + "==", 1, None, NONCE + "\n", "-" * 43 + "="])
def test_a_nonce_that_is_not_32_bytes_is_refused(nonce: object) -> None:
    with pytest.raises(ServiceMalformed, match="nonce"):
        KbsClient(_ok({"nonce": nonce, "extra-params": ""})).challenge("snp")


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (403, "PolicyDeny", Refused),
        (401, "PolicyDeny", Refused),
        (401, "AttestationError", Refused),
        (401, "TokenNotFound", SessionLost),
        (404, "PluginNotFound", SecretNotFound),
        (429, "", ServiceUnavailable),
        (500, "", ServiceUnavailable),
        (302, "", ServiceMalformed),
        (418, "", ServiceMalformed),
    ],
)
def test_each_status_is_one_kind_of_failure(status: int, kind: str, error: type[CvmError]) -> None:
    body = json.dumps({"type": f"https://x/errors/{kind}", "detail": "why"}).encode()
    with pytest.raises(error, match=f"why \\(HTTP {status}\\)"):
        KbsClient(Canned(status, body)).resource(PATH)


def test_reasons_are_bounded() -> None:
    body = json.dumps({"type": "x/PolicyDeny", "detail": "d" * 9000, "reasons": ["r" * 9000] * 99 + [1]}).encode()
    with pytest.raises(Refused) as caught:
        KbsClient(Canned(403, body)).resource(PATH)
    assert len(caught.value.reasons) == MAX_REASONS
    assert {len(reason) for reason in caught.value.reasons} == {MAX_REASON}
    assert len(caught.value.message) < 600


@given(st.sampled_from([200, 201, 301, 400, 401, 403, 404, 429, 500]), BODIES, st.none() | st.just("kbs-session-id=x"))
def test_any_answer_gives_a_value_or_our_error(status: int, body: bytes, cookie: str | None) -> None:
    key = GuestKey()
    client = KbsClient(Canned(status, body, cookie))
    for action in (
        lambda: client.challenge("snp"),
        lambda: client.attest(Challenge(NONCE, "sha384"), key.jwk(), {}),
        lambda: key.open(client.resource(PATH)),
    ):
        try:
            action()
        except CvmError:
            continue


def _token(claims: object) -> str:
    return f"e30.{urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b'=').decode()}.x"


def test_the_tokens_status_is_shown_when_there_is_one() -> None:
    assert token_status(_token({"submods": {"cpu0": {"ear.status": "warning"}}})) == "warning"


@given(JSON)
def test_any_token_has_a_status_to_show(claims: object) -> None:
    assert token_status(_token(claims)) == "unknown"


@given(st.text(max_size=60))
def test_any_text_has_a_status_to_show(text: str) -> None:
    assert token_status(text) == "unknown"
