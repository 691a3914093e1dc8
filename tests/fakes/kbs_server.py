"""A key broker in one process, over real TLS: just enough of KBS 0.4.0 to test a guest against, and to misbehave on demand.

Independent of the service: it wraps keys with jwcrypto and hashes with rfc8785. It verifies no evidence.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import ssl
import threading
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from jwcrypto import jwe, jwk

from attest.evidence.quote import parse_quote

MEMBERS = ("protected", "encrypted_key", "iv", "ciphertext", "tag")


def make_ca() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A CA of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
    return key, _certificate(name, name, key.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    ).sign(key, hashes.SHA256())


def _certificate(subject: x509.Name, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )


class FakeKbs:
    """The broker. ``fail`` may be set to a function from path to ``(status, error body)`` or ``None``."""

    def __init__(self, folder: Path, *, address: str = "127.0.0.1") -> None:
        self.ca_key, self.ca = make_ca()
        self.secrets: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.attested: list[dict[str, Any]] = []
        self.init_data: list[Any] = []
        self.fail: Callable[[str], tuple[int, dict[str, Any]] | None] = lambda path: None
        self.sessions: dict[str, dict[str, Any]] = {}
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self._server_certificate(folder, address))

    @property
    def ca_der(self) -> bytes:
        """What ``cvm.ca`` holds."""
        return self.ca.public_bytes(Encoding.DER)

    def _server_certificate(self, folder: Path, address: str) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test server")])
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        certificate = (
            _certificate(name, self.ca.subject, key.public_key())
            .add_extension(names, critical=False)
            .sign(self.ca_key, hashes.SHA256())
        )
        path = folder / "server.pem"
        path.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + certificate.public_bytes(Encoding.PEM)
        )
        return path

    def answer(self, method: str, path: str, cookie: str, body: bytes) -> tuple[int, dict[str, Any], str | None]:
        """Status, body, session to set."""
        self.requests.append(f"{method} {path}")
        failure = self.fail(path)
        if failure is not None:
            return *failure, None
        session = self.sessions.get(cookie.removeprefix("kbs-session-id="))
        if path == "/kbs/v0/auth":
            return self._auth(json.loads(body))
        if session is None:
            return 401, _problem("TokenNotFound", "no session"), None
        if path == "/kbs/v0/attest":
            return self._attest(session, json.loads(body))
        return self._resource(session, path.removeprefix("/kbs/v0/resource/").partition("?")[0])

    def _auth(self, request: dict[str, Any]) -> tuple[int, dict[str, Any], str | None]:
        if request["version"] != "0.4.0":
            return 401, _problem("ProtocolVersion", "KBS Client Protocol Version Mismatch: expect =0.4.0"), None
        name, nonce = secrets.token_hex(16), b64encode(secrets.token_bytes(32)).decode()
        self.sessions[name] = {"nonce": nonce}
        return 200, {"nonce": nonce, "extra-params": ""}, name

    def _attest(self, session: dict[str, Any], request: dict[str, Any]) -> tuple[int, dict[str, Any], str | None]:
        runtime, evidence = request["runtime-data"], request["tee-evidence"]
        document = {"additional-evidence": evidence["additional_evidence"], **runtime}
        expected = list(hashlib.sha384(rfc8785.dumps(document)).digest() + bytes(16))
        primary = evidence["primary_evidence"]
        if runtime["nonce"] != session["nonce"] or _report_data(primary) != expected:
            return 403, _problem("AttestationError", "report data do not match"), None
        session["key"] = runtime["tee-pubkey"]
        self.attested.append(primary)
        self.init_data.append(request["init-data"])
        claims = {"submods": {"cpu0": {"ear.status": "affirming"}}}
        payload = urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        return 200, {"token": f"e30.{payload}.c2ln"}, None

    def _resource(self, session: dict[str, Any], path: str) -> tuple[int, dict[str, Any], str | None]:
        if "key" not in session:
            return 401, _problem("TokenNotFound", "not attested"), None
        if path not in self.secrets:
            return 404, _problem("PluginNotFound", f"no resource {path}"), None
        public = {name: value for name, value in session["key"].items() if name != "alg"}
        header = json.dumps({"alg": "ECDH-ES+A256KW", "enc": "A256GCM"}, separators=(",", ":"))
        token = jwe.JWE(self.secrets[path], header, recipient=jwk.JWK(**public)).serialize(compact=True)
        return 200, dict(zip(MEMBERS, token.split("."), strict=True)), None


def _problem(kind: str, detail: str) -> dict[str, Any]:
    return {"type": f"https://github.com/confidential-containers/kbs/errors/{kind}", "detail": detail}


@contextmanager
def serving(kbs: FakeKbs) -> Iterator[int]:
    """Serve on 127.0.0.1 in a thread; the port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            status, document, session = kbs.answer(self.command, self.path, self.headers.get("Cookie", ""), body)
            data = json.dumps(document).encode()
            self.send_response(status)
            if session is not None:
                self.send_header("Set-Cookie", f"kbs-session-id={session}; Path=/kbs/v0; Secure; HttpOnly")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = kbs.context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda request, client: None  # type: ignore[method-assign, misc, assignment]  # TLS refusals
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _report_data(evidence: dict[str, Any]) -> list[int]:
    """What the evidence is about: a field of an SNP report, or 64 bytes of a quote."""
    if "quote" in evidence:
        return list(parse_quote(base64.b64decode(evidence["quote"])).body.report_data)
    found: list[int] = evidence["attestation_report"]["report_data"]
    return found
