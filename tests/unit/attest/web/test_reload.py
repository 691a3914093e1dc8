"""SIGHUP: a running service goes over to what its files say now, and nobody is turned away."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from attest.keys.authority import issue_server, make_authority
from tests.fakes.kbs_client import KbsClient, TeeKey, TlsTransport
from tests.fakes.served import Served
from tests.fakes.service_world import PATH, SECRET, evidence, reference
from tests.unit.attest.broker.test_tokens import payload_of
from tests.until import until


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("reload") / "service").init().start()
    operator = found.operator()
    assert operator.send("POST", f"/kbs/v0/resource/{PATH}", SECRET, {}).status == 200
    assert operator.send("POST", "/cvm/v0/reference-value", reference(), {}).status == 200
    yield found
    assert found.stop() == 0
    assert found.processes() == set()


class Guests:
    """One guest after the other, each with connections of its own, until told to stop."""

    def __init__(self, served: Served, context: ssl.SSLContext) -> None:
        self.got: list[bytes] = []
        self.trouble: list[Exception] = []
        self._served, self._context, self._enough = served, context, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Guests:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._enough.is_set():
            transport = TlsTransport("localhost", self._served.port, self._context)
            try:
                self.got.append(KbsClient(transport, evidence, TeeKey("P-256")).resource(PATH))
            except Exception as exc:  # noqa: BLE001  # whatever it is, the test wants to name it
                self.trouble.append(exc)


def children_of(process: int) -> set[int]:
    return set(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))


def children(served: Served) -> set[int]:
    return children_of(served.process.pid)


def shown_certificate(served: Served) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("localhost", served.port), timeout=60) as plain,
        context.wrap_socket(plain) as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""


def change(served: Served, old: str, new: str) -> None:
    text = served.config.read_text()
    assert old in text
    served.config.write_text(text.replace(old, new, 1))


def challenges(served: Served) -> int:
    """As counted by the service."""
    text = served.operator().send("GET", "/metrics", None, {}).body.decode()
    return int(re.findall(r'route="/kbs/v0/auth",status="200"\} (\d+)', text)[0])


def test_certificate_settings_and_policy_are_replaced_while_guests_come_and_none_is_turned_away(served: Served) -> None:
    authority = make_authority("another", datetime.now(UTC))
    certified = issue_server(authority, ["localhost", "127.0.0.1"], datetime.now(UTC))
    context = served.tls()
    context.load_verify_locations(cadata=authority.certificate_pem().decode())
    old, counted = children(served), 0
    with Guests(served, context) as guests:
        until(lambda: len(guests.got) >= 2)
        counted = challenges(served)
        (served.folder / "server.pem").write_bytes(certified.certificate_pem())
        (served.folder / "server.key").write_bytes(certified.key_pem())
        (served.folder / "ca.pem").write_bytes(authority.certificate_pem())
        change(served, 'audience = "kbs"', 'audience = "another"')
        policy = served.folder / "policy.toml"
        policy.write_bytes(
            policy.read_bytes() + b"# reviewed\n"
        )  # guests whose decision rests on the old one attest again
        os.kill(served.process.pid, signal.SIGHUP)
        until(lambda: "reloaded https://" in served.log.read_text())
        until(lambda: not old & children(served))
        before = len(guests.got)
        until(lambda: len(guests.got) >= before + 2)
    assert (guests.trouble, set(guests.got)) == ([], {SECRET})
    assert shown_certificate(served) == ssl.PEM_cert_to_DER_cert(certified.certificate_pem().decode())
    assert payload_of(served.guest().handshake())["aud"] == "another"
    assert challenges(served) > counted, "counters go on"
    changes = json.loads(served.attest("audit", "ask", "changes", "--json").out)["answer"]
    kinds = [change["kind"] for change in changes]
    assert (kinds.count("settings-change"), kinds.count("policy-apply")) == (2, 2), "the start and the reload"
    assert len(children(served)) == len(old)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[token]", "[tokens]", "$.tokens"),
        ("127.0.0.1:0", "127.0.0.1:1", "takes a restart"),
        ('certificate = "server.pem"', 'certificate = "missing.pem"', "missing.pem"),
    ],
)
def test_settings_that_are_wrong_are_refused_and_the_service_goes_on_as_it_was(
    served: Served, old: str, new: str, words: str
) -> None:
    before, good, said = children(served), served.config.read_text(), len(served.log.read_text())
    change(served, old, new)
    os.kill(served.process.pid, signal.SIGHUP)
    until(lambda: "reload refused" in served.log.read_text()[said:])
    served.config.write_text(good)
    assert words in served.log.read_text()[said:]
    assert children(served) == before
    assert served.guest().resource(PATH) == SECRET


def test_a_listener_that_is_sent_the_signal_itself_replaces_its_workers_only(served: Served) -> None:
    (guests,) = (child for child in children(served) if len(children_of(child)) == 2)
    old = children_of(guests)
    os.kill(guests, signal.SIGHUP)
    until(lambda: (now := children_of(guests)) and not now & old and len(now) == len(old))
    assert served.guest().resource(PATH) == SECRET
