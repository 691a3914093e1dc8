"""The service as it really runs: processes, TLS, signals."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import ssl
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.fakes.kbs_client import KbsClient, KbsError, KeptTransport, TeeKey, TlsTransport
from tests.fakes.kds import FakeKds
from tests.fakes.served import Served, attest_command
from tests.fakes.service_world import GOOD, OTHER, PATH, PKI, SECRET, evidence, reference
from tests.until import PATIENCE, until


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served") / "service").init().start()
    operator = served.operator()
    assert operator.send("POST", f"/kbs/v0/resource/{PATH}", SECRET, {}).status == 200
    assert operator.send("POST", "/cvm/v0/reference-value", reference(), {}).status == 200
    yield served
    served.stop()


@pytest.mark.parametrize("kind", ["P-256", "P-521", "RSA"])
def test_a_guest_gets_its_key_over_tls(served: Served, kind: str) -> None:
    assert served.guest(kind).resource(PATH) == SECRET


def test_a_guest_makes_its_whole_exchange_over_one_connection(served: Served) -> None:
    transport = KeptTransport("localhost", served.port, served.tls())
    guest = KbsClient(transport, evidence, TeeKey())
    assert guest.resource(PATH) == SECRET
    assert transport.connections == 1
    transport.close()


def test_a_client_that_comes_again_resumes_its_tls_session_with_whichever_worker(served: Served) -> None:
    context, session = served.tls(), None
    for visit in range(8):
        raw = socket.create_connection(("localhost", served.port), 20)
        with context.wrap_socket(raw, server_hostname="localhost", session=session) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert b"200 OK" in connection.recv(4096)
            assert connection.session_reused == (visit > 0)
            session = connection.session


def test_an_operator_who_is_slow_keeps_no_other_waiting(served: Served) -> None:
    """Nothing is timed: the slow one is given up by itself in the end, so that it still waits says who came first."""
    raw = socket.create_connection(("localhost", served.admin_port), 60)
    with served.tls(operator=True).wrap_socket(raw, server_hostname="localhost") as slow:
        slow.sendall(b"POST /cvm/v0/policy/check HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        assert served.operator().send("GET", "/healthz", None, {}).status == 200
        waits = select.poll()
        waits.register(slow, select.POLLIN | select.POLLHUP)
        assert not waits.poll(0)


def test_a_replayed_attestation_is_refused_over_tls(served: Served) -> None:
    guest = served.guest()
    guest.auth()
    body = guest.evidence()
    guest.attest(body)
    with pytest.raises(KbsError, match="401 nonce already used"):
        guest.attest(body)


def test_a_denied_guest_stops_over_tls(served: Served) -> None:
    guest = served.guest(measurement=OTHER)
    with pytest.raises(KbsError, match="403"):
        guest.resource(PATH)
    assert guest.handshakes == 1


def test_many_guests_at_once_all_get_their_key_and_one_chain_of_records(served: Served) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: served.guest().resource(PATH), range(16)))
    assert found == [SECRET] * 16
    checked = json.loads(served.attest("audit", "verify", "--json").out)
    assert checked["repeated"] >= 16


def test_two_requests_with_one_nonce_give_exactly_one_token(served: Served) -> None:
    for _ in range(5):
        guest = served.guest()
        guest.auth()
        body = json.dumps(guest.evidence()).encode()
        with ThreadPoolExecutor(4) as pool:
            statuses = sorted(reply.status for reply in pool.map(guest.post_raw, ["/attest"] * 4, [body] * 4))
        assert statuses == [200, 401, 401, 401]


def refuses_handshake(served: Served, context: ssl.SSLContext, port: int) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        TlsTransport("localhost", port, context).send("GET", "/healthz", None, {})


def test_the_operators_listener_demands_a_certificate_of_the_operators_authority(served: Served) -> None:
    refuses_handshake(served, served.tls(), served.admin_port)
    other = served.tls()
    other.load_cert_chain(served.folder / "server.pem", served.folder / "server.key")
    refuses_handshake(served, other, served.admin_port)


def test_an_operators_certificate_is_judged_again_with_every_connection(served: Served) -> None:
    context, session = served.tls(operator=True), None
    old = served.tls(operator=True)
    old.maximum_version = ssl.TLSVersion.TLSv1_2  # it would resume sessions
    refuses_handshake(served, old, served.admin_port)
    for _ in range(3):
        raw = socket.create_connection(("localhost", served.admin_port), 20)
        with context.wrap_socket(raw, server_hostname="localhost", session=session) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert b"HTTP/1.1" in connection.recv(4096)
            assert not connection.session_reused
            session = connection.session


def test_an_operators_certificate_opens_nothing_on_the_guests_listener(served: Served) -> None:
    transport = TlsTransport("localhost", served.port, served.tls(operator=True))
    assert transport.send("GET", "/kbs/v0/resource", None, {}).status == 404
    assert transport.send("POST", f"/kbs/v0/resource/{PATH}", b"x", {}).status == 405


def test_the_operator_is_named_in_the_record(served: Served) -> None:
    listed = json.loads(served.attest("audit", "list", "--kind", "reference-add", "--json").out)["records"]
    record = json.loads(served.attest("audit", "show", str(listed[0]["number"]), "--json").out)
    assert (record["actor"]["kind"], record["actor"]["name"]) == ("operator", "operator")
    assert len(record["actor"]["certificate_sha256"]) == 64


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_server_certificate_names_this_host(served: Served, host: str) -> None:
    assert TlsTransport(host, served.port, served.tls()).send("GET", "/readyz", None, {}).status == 200


def test_the_server_certificate_names_the_host_of_qemus_user_network(served: Served) -> None:
    plain = socket.create_connection(("127.0.0.1", served.port), timeout=5)
    with served.tls().wrap_socket(plain, server_hostname="10.0.2.2") as connection:
        assert connection.version() == "TLSv1.3"


def test_old_tls_is_refused(served: Served) -> None:
    context = served.tls()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    refuses_handshake(served, context, served.port)


def test_tls_1_2_without_forward_secrecy_is_refused(served: Served) -> None:
    context = served.tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-GCM-SHA256:AES256-SHA256")
    refuses_handshake(served, context, served.port)


def test_connections_that_say_nothing_do_not_stop_the_service(served: Served) -> None:
    silent = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(16)]
    try:
        started = time.monotonic()
        assert served.guest().resource(PATH) == SECRET
        assert time.monotonic() - started < 5
    finally:
        for connection in silent:
            connection.close()


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Served]:
    """A service that gives a request one second to come in."""
    found = (
        Served(tmp_path / "service", before="import attest.web.worker as own; own.READ_SECONDS = 1.0").init().start()
    )
    yield found
    found.stop()


def test_clients_that_send_their_request_drop_by_drop_do_not_hold_the_workers(impatient: Served) -> None:
    served = impatient
    head = b"POST /kbs/v0/auth HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    slow = []
    for sent in (head, head[:30], head, head[:30]):  # half of them in the body, half in the header
        connection = served.tls().wrap_socket(
            socket.create_connection(("127.0.0.1", served.port)), server_hostname="localhost"
        )
        connection.settimeout(0.3)
        connection.sendall(sent)
        slow.append(connection)
    ended = time.monotonic() + 6
    open_still = list(slow)
    while open_still and time.monotonic() < ended:
        for connection in list(open_still):
            try:
                connection.sendall(b"x")
                if not connection.recv(1 << 16):
                    open_still.remove(connection)
            except TimeoutError:
                continue
            except OSError:
                open_still.remove(connection)
    assert not open_still
    assert served.guest().auth()
    assert "Traceback" not in served.log.read_text()


def test_a_header_does_not_change_path_or_host(served: Served) -> None:
    transport = TlsTransport("localhost", served.port, served.tls())
    for name in ("Path-Info", "Script-Name", "X-Forwarded-Prefix", "X-Original-URL"):
        assert transport.send("GET", "/readyz", None, {name: "/kbs/v0/resource"}).json() == {"status": "ready"}


def test_requests_are_logged_without_secrets_or_tokens(served: Served) -> None:
    guest = served.guest()
    token = guest.handshake()
    guest.resource(PATH, token)
    log = served.log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert any(line.get("path") == "/kbs/v0/attest" and line["status"] == 200 for line in lines)
    for secret in (SECRET.decode(), token, guest.cookie or "-", guest.nonce):
        assert secret not in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service_with_0_and_leaves_no_process(tmp_path: Path, number: int) -> None:
    served = Served(tmp_path / "service").init().start()
    assert len(served.processes()) == 7
    assert served.stop(number) == 0
    assert served.processes() == set()


def test_a_killed_parent_takes_its_listeners_with_it(tmp_path: Path) -> None:
    served = Served(tmp_path / "service").init().start()
    served.process.kill()
    served.process.wait(PATIENCE)
    until(lambda: not served.processes(), "the listeners have ended")


def test_a_listener_that_dies_ends_the_service_with_1(tmp_path: Path) -> None:
    served = Served(tmp_path / "service").init().start()
    children = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    assert served.process.wait(PATIENCE) == 1


def test_state_survives_a_restart_and_tokens_too(tmp_path: Path) -> None:
    served = Served(tmp_path / "service").init().start()
    assert served.attest("key", "put", PATH, stdin=SECRET).code == 0
    (tmp_path / "ref.json").write_bytes(reference())
    assert served.attest("reference", "add", str(tmp_path / "ref.json")).code == 0
    guest = served.guest()
    token = guest.handshake()
    served.stop()
    served.start()
    guest.transport = TlsTransport("localhost", served.port, served.tls())
    assert guest.resource(PATH, token) == SECRET
    assert GOOD.hex() in served.attest("audit", "list").out
    assert served.stop() == 0


def test_an_address_in_use_is_one_clear_error(tmp_path: Path) -> None:
    served = Served(tmp_path / "service").init()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        served.config.write_text(served.config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}", 1))
        done = attest_command("serve", str(served.config))
    assert done.code == 3
    assert f"127.0.0.1:{port}: cannot listen" in done.err
    assert "Traceback" not in done.err


def test_the_running_service_fetches_what_a_guest_does_not_send(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes, the real clock: two workers, one request for each thing, then everything from the cache."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeKds(PKI) as kds:
        served = Served(tmp_path / "service").init()
        settings = served.config.read_text()
        served.config.write_text(settings.replace("online = false", f'online = true\nkds_url = "{kds.url}"'))
        (served.folder / "collateral" / "root").write_bytes(PKI.ark_der)
        served.start()
        try:
            assert served.operator().send("POST", "/cvm/v0/reference-value", reference(), {}).status == 200
            guests = [served.guest() for _ in range(4)]
            for guest in guests:
                guest.attester = lambda report_data: {**evidence(report_data), "cert_chain": []}
            with ThreadPoolExecutor(4) as pool:
                assert all(pool.map(lambda guest: guest.handshake(), guests))
            assert sorted(kds.asked) == sorted([kds.leaf.path, kds.chain.path, kds.list.path])
            listed = served.attest(
                "collateral", "status", "--root", str(served.folder / "collateral" / "root"), "--json"
            )
            assert {item["kind"] for item in json.loads(listed.out)["items"]} == {"chain", "crl", "vcek"}
        finally:
            assert served.stop() == 0


def test_the_running_service_renews_its_cache_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own does it, at once where the list at hand is twenty hours old; nobody asked for anything."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeKds(PKI) as kds:
        served = Served(tmp_path / "service").init()
        settings = served.config.read_text()
        served.config.write_text(settings.replace("online = false", f'online = true\nkds_url = "{kds.url}"'))
        (served.folder / "collateral" / "root").write_bytes(PKI.ark_der)
        old = datetime.now(UTC) - timedelta(hours=20)
        kds.source(served.folder / "collateral-cache").get(kds.list, PKI.anchors, old, kds.time.budget())
        served.start()
        try:
            until(lambda: "collateral renewed: Genoa VCEK CRL" in served.log.read_text(), "the list is renewed")
            assert kds.asked == [kds.list.path] * 2
            assert len(served.processes()) == 8
            operator = served.operator()
            text = operator.send("GET", "/metrics", None, {}).body.decode()
            assert 'attest_collateral_renewals_total{vendor="amd",outcome="renewed"} 1' in text
            assert 'attest_check{check="renewal"} 1' in text
            assert operator.send("GET", "/readyz", None, {}).json()["checks"]["renewal"] == "ok"
            listed = served.attest("collateral", "status")
            assert "a running service renews what is here" in listed.out
        finally:
            assert served.stop() == 0
