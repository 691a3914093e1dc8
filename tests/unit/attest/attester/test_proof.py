"""Proofs of answers: the real service's, and each rule with exactly one thing broken."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attest.attester.clock import learn_time
from attest.attester.errors import ServiceUntrusted
from attest.attester.https import Answer
from attest.attester.kbs import KbsClient
from attest.attester.proof import ProvenTransport, thumbprint
from attest.attester.session import Pace, Session
from attest.keys.signing import ES256, ES384, SigningKey
from tests.fakes.service_world import PATH, SECRET, ServiceWorld, evidence

KEY = SigningKey(ec.generate_private_key(ES384.curve))
OTHER = SigningKey(ec.generate_private_key(ES256.curve))
Change = Callable[[Answer], Answer]


class Wire:
    """Straight into the service's application; ``change`` is what somebody in between does to answers of ``path``."""

    def __init__(self, world: ServiceWorld) -> None:
        self.client = world.guest_app().test_client(use_cookies=False)
        self.change: Change = lambda answer: answer
        self.path = ""

    def send(
        self, method: str, path: str, body: bytes | None, cookie: str | None, challenge: str | None = None
    ) -> Answer:
        headers = {name: value for name, value in (("Cookie", cookie), ("Cvm-Challenge", challenge)) if value}
        got = self.client.open(path, method=method, data=body, headers=headers, base_url="https://kbs.test")
        set_cookie = got.headers.get("Set-Cookie", "").partition(";")[0] or None
        answer = Answer(got.status_code, got.get_data(), set_cookie, got.headers.get("Cvm-Proof"))
        return self.change(answer) if self.path in path else answer


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    made = ServiceWorld(tmp_path / "world")
    object.__setattr__(made.service, "answer_key", KEY)
    return made


def session(wire: Wire, pins: tuple[str, ...] = (KEY.kid,)) -> Session:
    transport = ProvenTransport(wire, pins)
    return Session(KbsClient(transport), "snp", evidence, pace=Pace(patience=0.0))


def resign(answer: Answer, key: SigningKey = KEY, header: dict[str, Any] | None = None, **members: object) -> Answer:
    """The same proof with members of statement or header changed, signed again."""
    statement = jwt.decode(answer.proof or "", options={"verify_signature": False}) | members
    jwk = {name: key.jwk[name] for name in ("kty", "crv", "x", "y")}
    headers = {"typ": "cvm-answer+jwt", "jwk": jwk} | (header or {})
    return answer._replace(proof=jwt.encode(statement, key.private, algorithm=key.algorithm, headers=headers))


def broken_signature(answer: Answer) -> Answer:
    head, _, signature = (answer.proof or "").rpartition(".")
    data = bytearray(base64.urlsafe_b64decode(signature + "=="))
    data[10] ^= 1
    return answer._replace(proof=f"{head}.{base64.urlsafe_b64encode(data).rstrip(b'=').decode()}")


def unsigned(answer: Answer) -> Answer:
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "cvm-answer+jwt"}).encode()).rstrip(b"=")
    return answer._replace(proof=f"{header.decode()}.{(answer.proof or '').split('.')[1]}.AA")


def test_a_guest_that_pins_the_key_gets_its_resource(world: ServiceWorld) -> None:
    assert session(Wire(world)).secret(PATH).reveal() == SECRET


def test_the_thumbprint_of_the_guest_is_the_one_of_the_service() -> None:
    for key in (KEY, OTHER):
        assert thumbprint(key.jwk) == key.kid


def test_clients_that_ask_for_no_proof_get_none(world: ServiceWorld) -> None:
    assert Wire(world).send("POST", "/kbs/v0/auth", b"{}", None).proof is None
    assert world.client().handshake()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda answer: answer._replace(proof=None), "carries none"),
        (lambda answer: answer._replace(proof="x" * 5000), "carries none"),
        (unsigned, "cvm.pin does not name|want an EC JWK"),
        (lambda answer: resign(answer, OTHER), "cvm.pin does not name"),
        (broken_signature, "signature does not fit"),
        (lambda answer: resign(answer, header={"typ": "JWT"}), "header is not typ"),
        (lambda answer: resign(answer, header={"crit": ["x"]}), "header is not typ"),
        (lambda answer: resign(answer, challenge="A" * 43), "another challenge"),
        (lambda answer: resign(answer, method="PUT"), "another method"),
        (lambda answer: resign(answer, path="/kbs/v0/resource/a/b/c"), "another path"),
        (lambda answer: resign(answer, status=201), "another status"),
        (lambda answer: answer._replace(body=answer.body + b" "), "another body"),
        (lambda answer: resign(answer, nonce="x"), "another nonce"),
        (lambda answer: resign_key(answer), "another key"),
        (lambda answer: resign(answer, time="now"), "time is not a whole number"),
    ],
)  # fmt: skip
def test_a_resource_without_its_own_proof_is_refused(world: ServiceWorld, change: Change, text: str) -> None:
    wire = Wire(world)
    wire.path, wire.change = "/resource/", change
    with pytest.raises(ServiceUntrusted, match=text):
        session(wire).secret(PATH)


def resign_key(answer: Answer) -> Answer:
    statement = jwt.decode(answer.proof or "", options={"verify_signature": False}) | {"key": OTHER.kid}
    jwk = {name: KEY.jwk[name] for name in ("kty", "crv", "x", "y")}
    headers = {"typ": "cvm-answer+jwt", "jwk": jwk}
    return answer._replace(proof=jwt.encode(statement, KEY.private, algorithm=KEY.algorithm, headers=headers))


def test_a_refusal_needs_its_proof_too(world: ServiceWorld) -> None:
    world.retire()
    wire = Wire(world)
    wire.path, wire.change = "/attest", lambda answer: answer._replace(proof=None)
    with pytest.raises(ServiceUntrusted, match="carries none"):
        session(wire).attest()


def test_a_proof_of_another_answer_of_the_same_session_does_not_count(world: ServiceWorld) -> None:
    """The key of another resource, wrapped to this very guest, in place of the one asked for."""
    world.put(PATH.__class__.parse("default/other/key"), b"another key entirely")
    wire = Wire(world)
    made = session(wire)
    made.attest()
    kept: list[Answer] = []
    wire.path, wire.change = "/resource/", lambda answer: kept.append(answer) or answer
    made.secret(PATH.__class__.parse("default/other/key"))
    wire.change = lambda answer: kept[0]
    with pytest.raises(ServiceUntrusted, match="another challenge"):
        made.secret(PATH)


def test_a_clock_that_is_off_is_set_from_the_proven_time_and_from_nothing_else(world: ServiceWorld) -> None:
    at = world.now.timestamp()
    for off, want in ((0.0, []), (3600.0, [float(int(at))]), (-86400.0, [float(int(at))])):
        told: list[float] = []
        learn_time(Wire(world), (KEY.kid,), "snp", now=lambda off=off: at + off, set_clock=told.append)
        assert told == want
    wire = Wire(world)
    wire.path, wire.change = "/auth", lambda answer: resign(answer, OTHER, time=1)
    with pytest.raises(ServiceUntrusted):
        learn_time(wire, (KEY.kid,), "snp", set_clock=told.append)
    wire.change = lambda answer: resign(answer, time=1)
    with pytest.raises(ServiceUntrusted, match="before this program was written"):
        learn_time(wire, (KEY.kid,), "snp", set_clock=told.append)
    assert len(told) == 1


def test_a_refusal_of_a_request_that_only_reads_like_the_guests_is_none_of_it(world: ServiceWorld) -> None:
    """Somebody in between with the certificate asks for another path, and passes the service's own refusal on."""

    class Between(Wire):
        def send(
            self, method: str, path: str, body: bytes | None, cookie: str | None, challenge: str | None = None
        ) -> Answer:
            return super().send(method, path.replace("?", "%3F"), body, cookie, challenge)

    with pytest.raises(ServiceUntrusted, match="another path"):
        session(Between(world)).disk_key(PATH)
