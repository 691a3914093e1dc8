"""The dashboard as it really runs: a process beside the service that has nothing to release a key with."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attest.keys.authority import issue_operator, make_authority
from tests.fakes.amd_pki import NOW
from tests.fakes.kbs_client import TlsTransport
from tests.fakes.served import Served
from tests.fakes.service_world import PATH, PKI, SECRET, reference
from tests.until import PATIENCE, until

KEYS = re.compile(
    r"attest\.(keys\.(?!client_crl$|errors$|files$|statement$)"
    r"|broker\.(release|service|attest|operations|tokens?|opening|jwe|log)$|store\.sessions$)"
)
"""``statement`` and ``client_crl`` are public halves: they check signatures of policies on record, and of lists."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served") / "service").init(PKI, "--dashboard", "127.0.0.1:0").start()
    operator = served.operator()
    assert operator.send("POST", f"/kbs/v0/resource/{PATH}", SECRET, {}).status == 200
    assert operator.send("POST", "/cvm/v0/reference-value", reference(), {}).status == 200
    assert served.guest().resource(PATH) == SECRET
    yield served
    served.stop()


def port(served: Served) -> int:
    match = re.search(r"dashboard https?://127\.0\.0\.1:(\d+)", served.log.read_text())
    assert match, served.log.read_text()
    return int(match[1])


def context(served: Served, name: str | None) -> ssl.SSLContext:
    found = ssl.create_default_context(cafile=served.folder / "auditor-ca.pem")
    if name is not None:
        found.load_cert_chain(served.folder / f"{name}.pem", served.folder / f"{name}.key")
    return found


def get(served: Served, path: str, name: str = "auditor") -> tuple[int, str]:
    reply = TlsTransport("localhost", port(served), context(served, name)).send("GET", path, None, {})
    return reply.status, reply.body.decode()


def processes(served: Served) -> dict[int, str]:
    """Every process of the service: its command line."""
    found = {}
    for number in served.processes():
        found[number] = Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def dashboards(served: Served) -> list[int]:
    return [number for number, line in processes(served).items() if " dashboard " in line]


def memory(number: int) -> Iterator[bytes]:
    """Every readable, private piece of a process's memory."""
    with Path(f"/proc/{number}/mem").open("rb") as mem:
        for line in Path(f"/proc/{number}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if not rights.startswith("rw"):
                continue
            start, end = (int(text, 16) for text in span.split("-"))
            try:
                mem.seek(start)
                yield mem.read(end - start)
            except (OSError, ValueError):
                continue


def holds(number: int, *secrets: bytes) -> bool:
    return any(secret in piece for piece in memory(number) for secret in secrets)


def private_bytes(path: Path) -> bytes:
    """The 32 bytes of a P-256 key file's secret number."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    return key.private_numbers().private_value.to_bytes(32, "big")


def test_an_auditor_and_an_operator_get_in_and_are_named(served: Served) -> None:
    for name in ("auditor", "operator"):
        status, text = get(served, "/overview", name)
        assert status == 200
        assert f"Seen by {name} {name}." in text


def test_nobody_else_gets_in(served: Served, tmp_path: Path) -> None:
    stranger = issue_operator(make_authority("cvm auditor CA", NOW), "auditor", NOW)
    (tmp_path / "x.pem").write_bytes(stranger.certificate_pem() + stranger.key_pem())
    forged = context(served, None)
    forged.load_cert_chain(tmp_path / "x.pem")
    for tried in (context(served, None), context(served, "server"), forged):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            TlsTransport("localhost", port(served), tried).send("GET", "/overview", None, {})


def test_an_auditors_certificate_opens_neither_of_the_other_listeners(served: Served) -> None:
    own = ssl.create_default_context(cafile=served.folder / "ca.pem")
    own.load_cert_chain(served.folder / "auditor.pem", served.folder / "auditor.key")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        TlsTransport("localhost", served.admin_port, own).send("GET", "/kbs/v0/resource", None, {})
    assert TlsTransport("localhost", served.port, own).send("GET", "/kbs/v0/resource", None, {}).status == 404


def test_what_guests_trust_does_not_vouch_for_the_dashboard(served: Served) -> None:
    guest = ssl.create_default_context(cafile=served.folder / "ca.pem")
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        TlsTransport("localhost", port(served), guest).send("GET", "/overview", None, {})


def test_its_processes_have_neither_master_key_nor_signing_keys_in_memory(served: Served) -> None:
    """The search finds the keys where they are: in the processes that release and sign."""
    get(served, "/overview")
    master = base64.b64decode((served.folder / "master.key").read_text().split()[-1] + "==", altchars=b"-_")
    token = private_bytes(served.folder / "token.key")
    secrets = (master, master.hex().encode(), token, token[::-1], (served.folder / "token.key").read_bytes()[40:100])
    pages = dashboards(served)
    assert len(pages) >= 2, processes(served)
    others = [number for number in processes(served) if number not in pages]
    assert any(holds(number, *secrets) for number in others)
    assert not any(holds(number, *secrets) for number in pages)


def test_its_processes_have_no_key_file_open_and_the_database_for_reading_only(served: Served) -> None:
    get(served, "/overview")
    modes = {}
    for number in dashboards(served):
        for entry in Path(f"/proc/{number}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since the folder was read
                target = os.readlink(entry)
                info = Path(f"/proc/{number}/fdinfo/{entry.name}").read_text()
                if target.startswith(str(served.folder)) and target != str(served.log):
                    modes[target] = int(re.search(r"flags:\s*(\d+)", info)[1], 8) & os.O_ACCMODE  # type: ignore[index]
    database = str(served.folder / "attest.db")
    assert modes[database] == os.O_RDONLY
    assert {path for path in modes if not path.startswith(database)} == set()


def test_no_code_that_releases_signs_or_changes_is_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import attest.web.dashboard.serve, sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [name for name in done.stdout.split() if KEYS.match(name)] == []


def test_it_reads_what_the_service_writes_meanwhile(served: Served) -> None:
    before = json.loads(get(served, "/overview.json")[1])["head"]["records"]
    served.guest().handshake()
    assert json.loads(get(served, "/overview.json")[1])["head"]["records"] == before + 1


def test_who_asked_is_in_the_log_without_the_query(served: Served) -> None:
    get(served, "/vm?name=very-private")
    lines = [json.loads(line) for line in served.log.read_text().splitlines() if line.startswith("{")]
    mine = [line for line in lines if line.get("visitor") == "auditor:auditor" and line["path"] == "/vm"]
    assert mine
    assert "very-private" not in served.log.read_text()


def test_it_runs_alone_without_any_key_file_and_plain_on_loopback(tmp_path: Path) -> None:
    served = Served(tmp_path / "service").init(PKI, "--dashboard", "127.0.0.1:0", "--dashboard-plain")
    for name in ("master.key", "token.key", "server.key", "operator-ca.key", "ca.key", "log.key"):
        (served.folder / name).unlink()
    log = tmp_path / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen([sys.executable, "-m", "attest", "dashboard", str(served.config)], stderr=sink)
    try:
        ready = re.compile(r"dashboard http://127\.0\.0\.1:(\d+)")
        until(lambda: process.poll() is not None or ready.search(log.read_text()), "the dashboard is ready")
        match = ready.search(log.read_text())
        assert match is not None, log.read_text()
        connection = http.client.HTTPConnection("127.0.0.1", int(match[1]), timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_the_dashboard_ends_with_the_service(tmp_path: Path) -> None:
    served = Served(tmp_path / "service").init(PKI, "--dashboard", "127.0.0.1:0").start()
    assert dashboards(served)
    served.stop(signal.SIGKILL)
    until(lambda: not served.processes(), "the dashboard has ended")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('certificate = "dashboard.pem"', "plain = true", r"\$\.dashboard\.key: means nothing with plain"),
        ('key = "dashboard.key"', "", r"\$\.dashboard\.key: missing"),
        ('listen = "127.0.0.1:0"         # aud', 'listen = "x"  # aud', r'\$\.dashboard\.listen: got "x"'),
        (
            '\nauditor_ca = "auditor-ca.pem"',
            '\nauditor_cas = "x"',
            r'auditor_cas: unknown key \(did you mean "auditor_ca"',
        ),
        ('\nauditor_ca = "auditor-ca.pem"', '\ndatabase = "sqlite:x"', r"\$\.dashboard\.database: want postgresql"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_their_place(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    served = Served(tmp_path / "service").init(PKI, "--dashboard", "127.0.0.1:0")
    text = served.config.read_text()
    assert old in text
    served.config.write_text(text.replace(old, new, 1))
    from tests.fakes.served import attest_command

    for verb in ("serve", "dashboard"):
        done = attest_command(verb, str(served.config)) if verb == "serve" else _alone(served)
        assert done.code == 3
        assert re.search(problem, done.err), done.err


def _alone(served: Served):  # type: ignore[no-untyped-def]
    from tests.fakes.served import Done

    done = subprocess.run(
        [sys.executable, "-m", "attest", "dashboard", str(served.config)], capture_output=True, text=True, timeout=30
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_plain_http_is_for_loopback_addresses_only(tmp_path: Path) -> None:
    done = Served(tmp_path / "service")
    with pytest.raises(AssertionError, match=r"\$\.dashboard\.plain: got true with 0\.0\.0\.0:8444"):
        done.init(PKI, "--dashboard", "0.0.0.0:8444", "--dashboard-plain")
