"""The client of a vault against a server that answers what a test says: away, busy, slow, a standby, no JSON."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from attest.keys.errors import KeyFileRefused
from attest.keys.files import write_private
from attest.keys.vault import CALL_SECONDS, Vault, VaultUnavailable
from attest.keys.vault_settings import load_vault_settings
from tests.fakes.tls_folder import make_tls

Answers = Callable[[str], tuple[int, Any]]
SELF = {"data": {"ttl": 0, "renewable": False}}


class Server:
    """``answers`` maps a path to status and JSON; what was asked is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.slept: list[float] = []
        self.now = 0.0
        self.answers: Answers = lambda path: (200, {})
        self.port = 0

    def vault(self) -> Vault:
        """A client with a token in a file."""
        path = self.folder / "vault.toml"
        path.write_text(
            f'url = "https://127.0.0.1:{self.port}"\nca = "tls/server/ca-cert.pem"\n'
            '[auth]\nkind = "token"\nfile = "token"\n'
        )
        return Vault(load_vault_settings(path), clock=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    own, _ = make_tls(tmp_path / "tls")
    write_private(tmp_path / "token", b"s.token\n")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix("/v1/")
            made.asked.append(path)
            status, body = (200, SELF) if path == "auth/token/lookup-self" else made.answers(path)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own / "server-cert.pem", own / "server-key.pem")
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    made.port = listening.server_address[1]
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.mark.parametrize("status", [429, 500, 502])
def test_a_busy_or_failing_server_is_asked_three_times_with_pauses(server: Server, status: int) -> None:
    left = iter([status, status])
    server.answers = lambda path: (next(left, 200), {"data": {"x": 1}})
    assert server.vault().ask("GET", "a").data == {"x": 1}
    assert server.slept == [0.1, 0.4]


@pytest.mark.parametrize(
    ("status", "body", "code", "tries"),
    [
        (429, {}, "vault.busy", 3),
        (500, {"errors": ["1 error"]}, "vault.failed", 3),
        (503, {"errors": ["Vault is sealed"]}, "vault.sealed", 1),
        (473, {}, "vault.standby", 1),
        (307, {}, "vault.standby", 1),
        (403, {"errors": ["permission denied"]}, "vault.denied", 2),
        (418, {}, "vault.failed", 1),
        (200, b"<html>", "vault.malformed", 1),
        (200, [1], "vault.malformed", 1),
        (200, b"{" + b" " * (5 << 20), "vault.malformed", 1),
    ],
)
def test_what_is_no_answer_is_named_and_never_a_value(
    server: Server, status: int, body: Any, code: str, tries: int
) -> None:
    server.answers = lambda path: (status, body)
    with pytest.raises(VaultUnavailable) as caught:
        server.vault().ask("GET", "a")
    assert (caught.value.code, caught.value.kind) == (code, "unavailable")
    assert server.asked.count("a") == tries
    assert "s.token" not in str(caught.value)


def test_a_server_that_is_not_there_costs_a_bounded_time(server: Server) -> None:
    vault = server.vault()
    vault.check()
    object.__setattr__(vault.settings, "port", 1)
    with pytest.raises(VaultUnavailable, match="refused") as caught:
        vault.ask("GET", "a")
    assert caught.value.code == "vault.unreachable"
    assert server.slept == [0.1, 0.4]
    server.now = 0.0
    server.answers = lambda path: (setattr(server, "now", server.now + CALL_SECONDS), (500, {}))[1]
    object.__setattr__(vault.settings, "port", server.port)
    server.slept.clear()
    with pytest.raises(VaultUnavailable):
        vault.ask("GET", "a")
    assert server.slept == []


def test_a_token_file_others_can_read_is_refused(server: Server) -> None:
    (server.folder / "token").chmod(0o644)
    with pytest.raises(KeyFileRefused, match="mode 0644"):
        server.vault().check()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('url = "http://x:1"\nca = "c"\n[auth]\nkind = "token"\nfile = "f"', "want https://host:port"),
        ('url = "https://x:1"\n[auth]\nkind = "token"\nfile = "f"', "$.ca: missing"),
        ('url = "https://x:1"\nca = "c"', "$.auth: missing"),
        ('url = "https://x:1"\nca = "c"\n[auth]\nkind = "tokn"', "did you mean"),
        ('url = "https://x:1"\nca = "c"\n[auth]\nkind = "approle"', "role_id: missing"),
        ('url = "https://x:1"\nca = "c"\n[auth]\nkind = "cert"', "certificate: missing"),
        ('url = "https://x:1"\nca = "c"\nskip_verify = true\n[auth]\nkind = "token"\nfile = "f"', "skip_verify"),
        ("url = ", "vault settings"),
    ],
)
def test_settings_that_are_none_are_refused_with_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "vault.toml").write_text(text)
    with pytest.raises(KeyFileRefused) as caught:
        load_vault_settings(tmp_path / "vault.toml")
    assert said in caught.value.message
