"""A guest's KBS client that obeys the rules of the real one (crate ``kbs_protocol``, 0.4.0 and 0.2.0), over any transport.

What it is strict about, because the real client is: ``extra-params`` must be present in a challenge; an error body must
parse as ``{"type", "detail"}``; the token's payload must be JSON with integer ``exp``, ``iat``, ``nbf``; all five JWE members
must be there; and the AAD is not the ``protected`` text received but the header parsed and written again, compact, ``alg``
first, ``enc`` second, the rest sorted. On 401 for a resource it attests again, at most three times; on anything else it stops.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any, Protocol

import rfc8785
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

CURVES: dict[str, tuple[ec.EllipticCurve, int]] = {"P-256": (ec.SECP256R1(), 32), "P-521": (ec.SECP521R1(), 66)}


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Transport(Protocol):
    """How a request travels."""

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        """Send one request."""


class KbsError(Exception):
    """The service said no, in a form the real client understands."""

    def __init__(self, reply: Reply) -> None:
        information = reply.json()
        assert isinstance(information["type"], str), information
        assert isinstance(information["detail"], str), information
        super().__init__(f"{reply.status} {information['detail']}")
        self.status, self.information = reply.status, information


@dataclass
class TlsTransport:
    """One new TLS connection per request, as the real client's pool sees a server that closes."""

    host: str
    port: int
    context: ssl.SSLContext

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        connection = http.client.HTTPSConnection(self.host, self.port, context=self.context, timeout=20)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()


@dataclass
class KeptTransport:
    """One TLS connection for request after request, as the real client's pool keeps it, until it is closed."""

    host: str
    port: int
    context: ssl.SSLContext
    connections: int = 0
    _connection: http.client.HTTPSConnection | None = None

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(self.host, self.port, context=self.context, timeout=20)
            self.connections += 1
        self._connection.request(method, path, body, dict(headers))
        answer = self._connection.getresponse()
        reply = Reply(answer.status, dict(answer.getheaders()), answer.read())
        if answer.will_close:
            self.close()
        return reply

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


@dataclass
class WsgiTransport:
    """Straight into a WSGI application."""

    client: Any
    environ: dict[str, Any] = field(default_factory=dict)

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        answer = self.client.open(
            path,
            method=method,
            data=body,
            headers=dict(headers),
            base_url="https://kbs.test",
            environ_base=self.environ,
        )
        return Reply(answer.status_code, dict(answer.headers), answer.get_data())


class TeeKey:
    """The key pair a guest makes for one session."""

    def __init__(self, kind: str = "P-256") -> None:
        self.private: Any
        if kind == "RSA":
            self.private = rsa.generate_private_key(65537, 2048)
            numbers = self.private.public_key().public_numbers()
            size = (numbers.n.bit_length() + 7) // 8
            n, e = encode(numbers.n.to_bytes(size, "big")), encode(numbers.e.to_bytes(3, "big"))
            self.jwk = {"kty": "RSA", "alg": "RSA-OAEP-256", "n": n, "e": e}
        else:
            curve, size = CURVES[kind]
            self.private = ec.generate_private_key(curve)
            point = self.private.public_key().public_numbers()
            x, y = encode(point.x.to_bytes(size, "big")), encode(point.y.to_bytes(size, "big"))
            self.jwk = {"kty": "EC", "crv": kind, "alg": "ECDH-ES+A256KW", "x": x, "y": y}

    def decrypt(self, jwe: Mapping[str, str]) -> bytes:
        """As ``keypair.rs`` does, the written-again header as AAD."""
        header = json.loads(decode(jwe["protected"]))
        rest = {name: ordered(header[name]) for name in sorted(header) if name not in ("alg", "enc")}
        again = json.dumps({"alg": header["alg"], "enc": header["enc"], **rest}, separators=(",", ":"))
        assert header["enc"] == "A256GCM"
        content_key = self._unwrap(header, decode(jwe["encrypted_key"]))
        sealed = decode(jwe["ciphertext"]) + decode(jwe["tag"])
        return AESGCM(content_key).decrypt(decode(jwe["iv"]), sealed, encode(again.encode()).encode())

    def _unwrap(self, header: Mapping[str, Any], encrypted_key: bytes) -> bytes:
        if header["alg"] == "RSA-OAEP-256":
            oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
            return bytes(self.private.decrypt(encrypted_key, oaep))
        assert header["alg"] == "ECDH-ES+A256KW"
        epk = header["epk"]
        curve, size = CURVES[epk["crv"]]
        x, y = decode(epk["x"]), decode(epk["y"])
        assert len(x) == len(y) == size, "coordinates are not of the curve's width"
        public = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve).public_key()
        shared = self.private.exchange(ec.ECDH(), public)
        name = header["alg"].encode()
        other = len(name).to_bytes(4, "big") + name + bytes(8) + (256).to_bytes(4, "big")
        return aes_key_unwrap(ConcatKDFHash(hashes.SHA256(), 32, other).derive(shared), encrypted_key)


Attester = Callable[[bytes], dict[str, Any]]
"""Evidence for 64 bytes of REPORT_DATA."""


@dataclass
class KbsClient:
    """One client with its cookie store and key."""

    transport: Transport
    attester: Attester
    key: TeeKey = field(default_factory=TeeKey)
    version: str = "0.4.0"
    tee: str = "snp"
    cookie: str | None = None
    nonce: str = ""
    handshakes: int = 0

    def auth(self) -> str:
        """``POST /auth``; keeps the cookie, returns the nonce."""
        extra = {"supported-hash-algorithms": ["sha256", "sha384", "sha512", "sm3"]}
        reply = self.post("/auth", {"version": self.version, "tee": self.tee, "extra-params": extra})
        challenge = reply.json()
        assert "extra-params" in challenge, "the real client cannot parse a challenge without extra-params"
        assert len(base64.b64decode(challenge["nonce"], validate=True)) == 32
        cookie = SimpleCookie(reply.headers["Set-Cookie"])["kbs-session-id"]
        assert cookie["path"] in ("/", "/kbs/v0")
        self.cookie, self.nonce = cookie.value, challenge["nonce"]
        return self.nonce

    def evidence(self) -> dict[str, Any]:
        """The body of ``POST /attest``, bound to nonce and key."""
        runtime = {"nonce": self.nonce, "tee-pubkey": self.key.jwk}
        old = self.version == "0.2.0"
        digest = hashes.Hash(hashes.SHA384())
        digest.update(rfc8785.dumps(runtime if old else {"additional-evidence": "", **runtime}))
        report_data = digest.finalize().ljust(64, b"\0")
        if old:
            return {"tee-pubkey": self.key.jwk, "tee-evidence": self.attester(report_data)}
        return {
            "init-data": None,
            "runtime-data": runtime,
            "tee-evidence": {"primary_evidence": self.attester(report_data), "additional_evidence": ""},
        }

    def attest(self, body: Mapping[str, Any] | None = None) -> str:
        """``POST /attest``; the token, looked at as the real client does."""
        token = self.post("/attest", self.evidence() if body is None else body).json()["token"]
        payload = json.loads(decode(token.split(".")[1]))
        assert all(type(payload[name]) is int for name in ("exp", "iat", "nbf")), payload
        return str(token)

    def handshake(self) -> str:
        """Challenge, evidence, token."""
        self.handshakes += 1
        self.auth()
        return self.attest()

    def resource(self, path: str, token: str | None = None) -> bytes:
        """``GET /resource/…``, with cookie or token, opened; attests (again) on 401, at most three times."""
        for attempt in range(3):
            reply = self.get(f"/resource/{path}", token)
            if reply.status == 200:
                members = reply.json()
                assert set(members) == {"protected", "encrypted_key", "iv", "ciphertext", "tag"}, members
                return self.key.decrypt(members)
            if reply.status != 401 or token is not None or attempt == 2:
                raise KbsError(reply)
            KbsError(reply)  # the body must parse in any case
            self.handshake()
        raise AssertionError("unreachable")

    def get(self, path: str, token: str | None = None) -> Reply:
        """A GET under the prefix."""
        headers = {"Authorization": f"Bearer {token}"} if token else self._cookies()
        return self.transport.send("GET", f"/kbs/v0{path}", None, headers)

    def post(self, path: str, body: Mapping[str, Any]) -> Reply:
        """A POST under the prefix; raises KbsError unless 200."""
        reply = self.post_raw(path, json.dumps(body).encode())
        if reply.status != 200:
            raise KbsError(reply)
        return reply

    def post_raw(self, path: str, body: bytes) -> Reply:
        """A POST of any bytes."""
        headers = {"Content-Type": "application/json", **self._cookies()}
        return self.transport.send("POST", f"/kbs/v0{path}", body, headers)

    def _cookies(self) -> dict[str, str]:
        return {} if self.cookie is None else {"Cookie": f"kbs-session-id={self.cookie}"}


def ordered(value: Any) -> Any:
    """Objects with their members in alphabetical order."""
    return {name: ordered(value[name]) for name in sorted(value)} if isinstance(value, dict) else value


def encode(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """From base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
