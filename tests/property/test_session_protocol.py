"""The session protocol against a model of it: whatever guests, thieves, operators and clocks do, in any order.

The model knows per session whether its nonce is good and which decision it stands for; a release is right only where the
model allows it, and exactly the releases are on record.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from attest.broker.tokens import revoke
from attest.broker.verify_trail import verify_trail
from tests.fakes.kbs_client import KbsClient
from tests.fakes.service_world import OTHER, PATH, SECRET, ServiceWorld, demo_policy

CHALLENGE, TOKEN = timedelta(minutes=2), timedelta(minutes=5)


@dataclass
class Guest:
    """A client, and what the model knows of its session and token."""

    client: KbsClient
    good: bool
    expires: datetime | None = None
    used: bool = False
    body: bytes = b""
    token: str | None = None
    ends: datetime | None = None
    generation: int = 0
    revoked: bool = field(default=False)


class Protocol(RuleBasedStateMachine):
    """Guests come, attest, fetch, replay, steal; the operator changes the rules; time passes."""

    guests = Bundle("guests")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = ServiceWorld(Path(self.folder.name) / "service")
        self.generation, self.released, self.accepted = 0, 0, 0
        self.registered = True

    def teardown(self) -> None:
        verify_trail(self.world.database)
        self.world.database.close()
        self.folder.cleanup()

    @rule(
        target=guests,
        good=st.booleans(),
        kind=st.sampled_from(["P-256", "P-521"]),
        version=st.sampled_from(["0.4.0", "0.2.0"]),
    )
    def comes(self, good: bool, kind: str, version: str) -> Guest:
        client = self.world.client(kind) if good else self.world.client(kind, measurement=OTHER)
        client.version = version
        return Guest(client, good)

    @rule(guest=guests)
    def asks_for_a_challenge(self, guest: Guest) -> None:
        guest.client.auth()
        guest.expires, guest.used, guest.body = self.world.now + CHALLENGE, False, b""
        guest.token, guest.ends = None, None

    @rule(guest=guests, replay=st.booleans())
    def attests(self, guest: Guest, replay: bool) -> None:
        if guest.expires is None:
            return
        if not (replay and guest.body):
            guest.body = json.dumps(guest.client.evidence()).encode()
        reply = guest.client.post_raw("/attest", guest.body)
        fresh = not guest.used and self.world.now < guest.expires
        guest.used = guest.used or fresh
        want = (200 if guest.good and self.registered else 403) if fresh else 401
        assert reply.status == want, (reply, fresh)
        if want == 200:
            self.accepted += 1
            guest.token, guest.ends = reply.json()["token"], self.world.now + TOKEN
            guest.generation, guest.revoked = self.generation, False

    @rule(guest=guests, by_token=st.booleans())
    def fetches(self, guest: Guest, by_token: bool) -> None:
        if guest.expires is None:
            return
        reply = guest.client.get(f"/resource/{PATH}", guest.token if by_token and guest.token else None)
        allowed = self.allowed(guest)
        assert reply.status == (200 if allowed else 401), reply
        if allowed:
            self.released += 1
            assert guest.client.key.decrypt(reply.json()) == SECRET

    @rule(victim=guests, thief=guests)
    def steals(self, victim: Guest, thief: Guest) -> None:
        if victim is thief or victim.client.cookie is None:
            return
        headers = {"Cookie": f"kbs-session-id={victim.client.cookie}"}
        reply = thief.client.transport.send("GET", f"/kbs/v0/resource/{PATH}", None, headers)
        assert (reply.status == 200) == self.allowed(victim), reply
        if reply.status == 200:
            self.released += 1
            assert victim.client.key.decrypt(reply.json()) == SECRET
            with pytest.raises((InvalidUnwrap, ValueError)):
                thief.client.key.decrypt(reply.json())

    @rule(seconds=st.sampled_from([1, 60, 119, 121, 301]))
    def time_passes(self, seconds: int) -> None:
        self.world.later(seconds=seconds)

    @rule()
    def the_policy_changes(self) -> None:
        self.generation += 1
        self.world.policy(demo_policy() + f"# {self.generation}\n".encode())

    @rule()
    def the_reference_value_goes_or_comes(self) -> None:
        if self.registered:
            self.world.retire()
        else:
            self.world.add_reference()
        self.registered, self.generation = not self.registered, self.generation + 1

    @rule(guest=guests)
    def a_token_is_revoked(self, guest: Guest) -> None:
        if guest.token is None or guest.revoked or guest.ends is None or self.world.now >= guest.ends:
            return
        revoke(self.world.database, self.token_id(guest), "lost", self.world.by)
        guest.revoked = True

    def token_id(self, guest: Guest) -> str:
        assert guest.token is not None
        return str(jwt.decode(guest.token, options={"verify_signature": False})["jti"])

    def allowed(self, guest: Guest) -> bool:
        """What the model says about the guest's session."""
        live = guest.token is not None and guest.ends is not None and self.world.now < guest.ends
        return live and not guest.revoked and guest.generation == self.generation

    @invariant()
    def what_left_is_on_record_and_nothing_else(self) -> None:
        assert len(self.world.records("release")) == self.released
        assert sum(record["verdict"] == "affirming" for record in self.world.records("decision")) == self.accepted


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(
    max_examples=8, stateful_step_count=20, deadline=None, database=None, derandomize=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
