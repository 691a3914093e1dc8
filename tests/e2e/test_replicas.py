"""Three replicas behind HAProxy on one PostgreSQL: any of them serves any step, and none is needed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from attest.evidence.amd_certificate import AmdCertificate
from tests.fakes.balancer import Balancer
from tests.fakes.kbs_client import KbsClient, KbsError, TeeKey, TlsTransport, decode
from tests.fakes.postgres import PostgresServer
from tests.fakes.served import Served, attest_command
from tests.fakes.service_world import PATH, PKI, SECRET, evidence, reference
from tests.until import PATIENCE, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]
STEPS = ("/kbs/v0/auth", "/kbs/v0/attest", f"/kbs/v0/resource/{PATH}")


@dataclass
class Cluster:
    """The replicas, the balancer, and the database."""

    postgres: PostgresServer
    replicas: list[Served]
    balancer: Balancer

    def guest(self) -> KbsClient:
        """A guest that knows the balancer only, and opens a connection for each request."""
        transport = TlsTransport("localhost", self.balancer.port, self.replicas[0].tls())
        return KbsClient(transport, evidence, TeeKey("P-256"))

    def served_by(self, path: str) -> list[int]:
        """Which replicas answered that path with 200, by their logs."""
        found = []
        for number, replica in enumerate(self.replicas):
            lines = [json.loads(line) for line in replica.log.read_text().splitlines() if line.startswith("{")]
            found += [number for line in lines if line.get("path") == path and line.get("status") == 200]
        return found

    def kill(self, number: int) -> None:
        """SIGKILL to every process of one replica."""
        for pid in self.replicas[number].processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.replicas[number].process.wait(PATIENCE)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    postgres = PostgresServer()
    try:
        base = tmp_path / "r0"
        root = AmdCertificate.parse(PKI.ark_der).spki_sha256.hex()
        done = attest_command(
            "init", str(base), "--policy", "demo", "--emulated-root", root, "--database", postgres.new_database(),
            "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
        )  # fmt: skip
        assert done.code == 0, done.err
        replicas = [Served(base)]
        for number in (1, 2):  # what an operator copies to another machine: the folder, keys and all
            replicas.append(Served(Path(shutil.copytree(base, tmp_path / f"r{number}"))))
        for replica in replicas:
            replica.start()
        assert replicas[0].attest("key", "put", PATH, stdin=SECRET).code == 0
        (tmp_path / "ref.json").write_bytes(reference())
        assert replicas[1].attest("reference", "add", str(tmp_path / "ref.json")).code == 0
        with Balancer(tmp_path, [replica.port for replica in replicas]) as balancer:
            yield Cluster(postgres, replicas, balancer)
        for replica in replicas:
            replica.stop()
    finally:
        postgres.remove()


@dataclass
class Load:
    """Guests that attest and fetch in a loop, and everything they were told."""

    cluster: Cluster
    tokens: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    broken: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def guest(self) -> None:
        """One guest after the other, each as often as the real client tries."""
        while not self.stop.is_set():
            guest = self.cluster.guest()
            try:
                token = guest.handshake()
                token_id = json.loads(decode(token.split(".")[1]))["jti"]
                self.tokens.append(token_id)
                assert guest.resource(PATH, token) == SECRET
                self.released.append(token_id)
            except KbsError as exc:
                self.refused.append(exc.status)
                time.sleep(0.1)
            except OSError:  # the connection broke: a replica or the database went
                self.broken += 1
                time.sleep(0.1)

    def goes_on(self, guests: int = 20) -> None:
        """Until so many more have their key."""
        before = len(self.released)
        until(lambda: len(self.released) >= before + guests, f"{guests} more guests have their key")

    def is_turned_away(self) -> None:
        """Until one more was refused."""
        before = len(self.refused)
        until(lambda: len(self.refused) > before, "a guest is refused")

    def lost(self) -> tuple[set[str], set[str]]:
        """Acknowledged tokens without a decision on record, and released keys without a release on record."""
        listed = json.loads(self.cluster.replicas[1].attest("audit", "list", "--json", "--limit", "100000").out)
        found: dict[str, set[str]] = {"decision": set(), "release": set()}
        for record in listed["records"]:
            if record["kind"] in found:
                found[record["kind"]].add(record["token_id"])
        return set(self.tokens) - found["decision"], set(self.released) - found["release"]


def test_the_steps_of_one_guest_are_served_by_different_replicas(cluster: Cluster) -> None:
    for _ in range(3):
        assert cluster.guest().resource(PATH) == SECRET
    places = [cluster.served_by(step) for step in STEPS]
    assert [len(place) for place in places] == [3, 3, 3]
    assert set().union(*map(set, places)) == {0, 1, 2}
    guest = cluster.guest()
    guest.auth()
    before = [cluster.served_by(step) for step in STEPS]
    token = guest.attest()
    guest.cookie = None
    assert guest.resource(PATH, token) == SECRET
    after = [cluster.served_by(step) for step in STEPS]
    attested = next(n for n in range(3) if after[1].count(n) > before[1].count(n))
    fetched = next(n for n in range(3) if after[2].count(n) > before[2].count(n))
    assert attested != fetched, "the token of one replica was taken by another"


def test_a_token_key_made_at_one_replica_signs_at_all_and_none_is_restarted(cluster: Cluster) -> None:
    first, *others = cluster.replicas
    guest = cluster.guest()
    old = guest.handshake()
    rotated = first.operator().send("POST", "/cvm/v0/token-key?after=0", None, {})
    assert rotated.status == 200, rotated
    for replica in others:
        until(partial(publishes, replica, rotated.json()["kid"]))
        assert header(replica.guest().handshake())["kid"] == rotated.json()["kid"]
    assert header(old)["kid"] != rotated.json()["kid"]
    guest.cookie = None
    assert guest.resource(PATH, old) == SECRET, "tokens of before stay good"


def publishes(replica: Served, kid: str) -> bool:
    """Whether a replica names that key to relying parties."""
    found = replica.guest().transport.send("GET", "/.well-known/jwks.json", None, {}).json()
    return kid in [key["kid"] for key in found["keys"]]


def header(token: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(decode(token.split(".")[0]))
    return found


def test_a_replica_killed_between_two_steps_is_not_missed(cluster: Cluster) -> None:
    guest = cluster.guest()
    guest.auth()
    opened = cluster.served_by(STEPS[0])
    cluster.kill(opened[-1])
    assert guest.attest()
    assert guest.resource(PATH) == SECRET
    assert guest.handshakes == 0, "the challenge of the dead replica was answered at another"


def test_a_replica_killed_under_load_costs_no_guest_its_key(cluster: Cluster) -> None:
    load = Load(cluster)
    with ThreadPoolExecutor(6) as pool:
        guests = [pool.submit(load.guest) for _ in range(6)]
        load.goes_on()
        cluster.kill(2)
        load.goes_on(100)
        load.stop.set()
        for guest in guests:
            guest.result(PATIENCE)
    assert set(load.refused) <= {503}
    assert load.lost() == (set(), set())


def test_nothing_acknowledged_is_lost_when_postgresql_crashes_under_load(cluster: Cluster) -> None:
    load = Load(cluster)
    with ThreadPoolExecutor(6) as pool:
        guests = [pool.submit(load.guest) for _ in range(6)]
        load.goes_on()
        for how in (signal.SIGQUIT, signal.SIGINT):  # a crash, then an orderly restart
            cluster.postgres.stop(how)
            load.is_turned_away()
            cluster.postgres.start()
            load.goes_on()
        load.stop.set()
        for guest in guests:
            guest.result(PATIENCE)
    assert set(load.refused) <= {503}, "a database that is away is never the guest's fault"
    assert load.lost() == (set(), set())
    checked = json.loads(cluster.replicas[0].attest("audit", "verify", "--json").out)
    assert checked["repeated"] >= len(load.tokens)
