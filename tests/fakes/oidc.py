"""An OpenID provider on loopback: discovery and keys over TLS, tokens with its signature; it rotates, lies and dawdles.

with FakeProvider(folder) as provider:
    token = provider.token(roles=["ops"])            signed with its newest key
    provider.rotate()                                a new key; the old one stays unless keep=False
    provider.answers["/keys"] = Answer(500)          instead of the right one
    provider.asked                                   paths in order

A person's browser that is sent to ``/authorize`` comes back at once, logged in as ``provider.person``, with a code that
``/token`` changes once for an ID token; ``provider.returns`` and ``provider.person`` let both lie.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import secrets
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from attest.keys.authority import issue_server, make_authority
from attest.settings_oidc import OidcSettings
from tests.fakes.background import Background

DISCOVERY, KEYS = "/.well-known/openid-configuration", "/keys"
AUTHORIZE, TOKEN = "/authorize", "/token"
AUDIENCE, CLIENT, SECRET = "attest", "attest-pages", "client secret: ü&="


@dataclass(frozen=True)
class Answer:
    """``body=None`` is the right one; ``delay`` and ``drip`` are seconds before the first and after every byte."""

    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0


def make_key(algorithm: str) -> Any:
    """A private key that fits."""
    makers = {
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }
    return makers.get(algorithm, lambda: rsa.generate_private_key(65537, 2048))()


def public_jwk(private: Any, algorithm: str, **members: object) -> dict[str, Any]:
    """The public half as a JWK."""
    found = get_default_algorithms()[algorithm].to_jwk(private.public_key(), as_dict=True)
    return {**found, "alg": algorithm, "use": "sig", **members}


class FakeProvider(Background):
    """The provider; a context manager. ``folder`` gets its TLS files, ``clock`` says when tokens are made."""

    def __init__(self, folder: Path, *, algorithm: str = "ES256") -> None:
        self.folder, self.algorithm = folder, algorithm
        folder.mkdir(parents=True, exist_ok=True)
        self.private: dict[str, tuple[Any, str]] = {}
        self.keys: list[dict[str, Any]] = []
        self.answers: dict[str, Answer] = {}
        self.discovery: dict[str, Any] = {}
        self.asked: list[str] = []
        self.person: dict[str, Any] = {"sub": "anna", "roles": ["audit"]}
        self.returns: dict[str, str | None] = {}
        self.back = ""
        self.secret: str | None = None
        self.codes: dict[str, dict[str, str]] = {}
        self._stop = threading.Event()
        self._server = self._listen()
        self.rotate()

    @property
    def issuer(self) -> str:
        """Its URL."""
        return f"https://localhost:{self._server.server_address[1]}"

    def settings(self, **changes: Any) -> OidcSettings:
        """What a service that trusts it is told."""
        found = OidcSettings(
            self.issuer, AUDIENCE, ("roles",), operator=("ops",), auditor=("audit",), ca=self.folder / "oidc-ca.pem"
        )
        return replace(found, **changes)

    def toml(self, *more: str) -> str:
        """The same as a table of settings; ``more`` lines."""
        lines = (
            "[server.oidc]", f'issuer = "{self.issuer}"', f'audience = "{AUDIENCE}"',
            f'ca = "{self.folder / "oidc-ca.pem"}"', 'role_claim = ["roles"]',
            'operator = ["ops"]', 'auditor = ["audit"]', *more,
        )  # fmt: skip
        return "\n".join(lines) + "\n"

    def rotate(self, algorithm: str | None = None, *, keep: bool = True) -> str:
        """Sign with a new key from now on; returns its name."""
        kid, algorithm = f"k{len(self.private) + 1}", algorithm or self.algorithm
        self.private[kid] = (make_key(algorithm), algorithm)
        entry = public_jwk(self.private[kid][0], algorithm, kid=kid)
        self.keys = [*(self.keys if keep else ()), entry]
        return kid

    def claims(self, now: datetime | None = None, **changes: Any) -> dict[str, Any]:
        """What a token says; ``None`` takes a claim away."""
        issued = int(time.time() if now is None else now.timestamp())
        found = {
            "iss": self.issuer, "aud": AUDIENCE, "sub": "olga", "roles": ["ops"], "jti": "t1",
            "iat": issued, "exp": issued + int(timedelta(minutes=10).total_seconds()), **changes,
        }  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}

    def token(self, now: datetime | None = None, *, kid: str | None = None, header: Mapping[str, Any] | None = None,
              **changes: Any) -> str:  # fmt: skip
        """A token signed with its newest key, or with ``kid``; ``changes`` are claims, ``header`` more members."""
        kid = kid or max(self.private, key=lambda name: int(name[1:]))
        private, algorithm = self.private[kid]
        members = {"kid": kid, **(header or {})}
        signed = {name: value for name, value in members.items() if value is not None}
        return jwt.encode(self.claims(now, **changes), private, algorithm=algorithm, headers=signed)

    def resigned(self, header: bytes, payload: bytes) -> str:
        """A token of these very bytes, with a good signature of the newest key."""
        private, algorithm = self.private[max(self.private, key=lambda name: int(name[1:]))]
        text = f"{_encode(header)}.{_encode(payload)}"
        return f"{text}.{_encode(get_default_algorithms()[algorithm].sign(text.encode(), private))}"

    def _listen(self) -> http.server.ThreadingHTTPServer:
        now = datetime.now().astimezone()
        authority = make_authority("oidc CA", now)
        server = issue_server(authority, ("localhost",), now)
        (self.folder / "oidc-ca.pem").write_bytes(authority.certificate_pem())
        (self.folder / "oidc.pem").write_bytes(server.certificate_pem() + server.key_pem())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "oidc.pem")
        listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        listening.daemon_threads = True
        listening.socket = context.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
        return listening

    def _right(self, path: str) -> bytes | None:
        if path == DISCOVERY:
            found = {
                "issuer": self.issuer, "jwks_uri": self.issuer + KEYS,
                "authorization_endpoint": self.issuer + AUTHORIZE, "token_endpoint": self.issuer + TOKEN,
                "authorization_response_iss_parameter_supported": True, **self.discovery,
            }  # fmt: skip
            return json.dumps(found).encode()
        return json.dumps({"keys": self.keys}).encode() if path == KEYS else None

    def authorize(self, query: str) -> str:
        """Where a browser that came with this query goes next: back, with a code (RFC 6749 section 4.1.2)."""
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        assert (asked["client_id"], asked["redirect_uri"]) == (CLIENT, self.back), "not as it is registered"
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(24)
        self.codes[code] = asked
        said = {"code": code, "state": asked["state"], "iss": self.issuer, **self.returns}
        return f"{self.back}?{urlencode({name: value for name, value in said.items() if value is not None})}"

    def change(self, form: Mapping[str, str], authorization: str | None) -> tuple[int, dict[str, Any]]:
        """What ``/token`` says to a form: each code once, to who began, proven by the verifier (RFC 7636)."""
        asked = self.codes.pop(form.get("code", ""), None)
        known = base64.b64decode((authorization or "").removeprefix("Basic ")).decode().partition(":")
        shown = (unquote(known[0]), unquote(known[2])) if authorization else (form.get("client_id"), None)
        challenge = _encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if shown != (CLIENT, self.secret):
            return 401, {"error": "invalid_client"}
        if asked is None or challenge != asked["code_challenge"] or form.get("redirect_uri") != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        claims = {"aud": CLIENT, "nonce": asked["nonce"], **self.person}
        header = claims.pop("header", None)
        return 200, {"token_type": "Bearer", "access_token": "x", "id_token": self.token(header=header, **claims)}

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                provider.asked.append(self.path)
                form = {name: values[0] for name, values in parse_qs(body).items()}
                status, found = provider.change(form, self.headers["Authorization"])
                answer = provider.answers.get(self.path, Answer(status, json.dumps(found).encode()))
                self.send_response(answer.status)
                self.end_headers()
                self.wfile.write(answer.body or b"")

            def do_GET(self) -> None:
                provider.asked.append(self.path.partition("?")[0])
                if urlsplit(self.path).path == AUTHORIZE:
                    self.send_response(302)
                    self.send_header("Location", provider.authorize(urlsplit(self.path).query))
                    self.end_headers()
                    return
                answer = provider.answers.get(self.path, Answer())
                provider._stop.wait(answer.delay)
                body = provider._right(self.path) if answer.body is None else answer.body
                self.send_response(404 if body is None else answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self._send(body or b"", answer.drip)
                except OSError:
                    return  # the client gave up, which is what some tests are about

            def _send(self, body: bytes, drip: float) -> None:
                for number in range(len(body)) if drip else ():
                    self.wfile.write(body[number : number + 1])
                    if provider._stop.wait(drip):
                        return
                if not drip:
                    self.wfile.write(body)

            def log_message(self, *words: object) -> None:
                """Nothing on standard error."""

        return Handler


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
