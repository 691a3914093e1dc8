"""The service's proof of each answer, checked against keys the command line pins (``cvm.pin``).

1. There is a proof, a compact JWS of type ``cvm-answer+jwt`` under ES256 or ES384, the algorithm of its key's curve.
2. The key in it is one of the pinned ones, by its RFC 7638 thumbprint.
3. The signature fits.
4. It is about this request and this answer: our random challenge, method, path, status, digest of the body.
5. After the challenge: it names our session's nonce. With a token or resource: it names our key.

Anything else is not the service, whatever certificate it shows. Only 429 and 5xx may come without proof: a balancer
sends those, and they give nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attest.attester.errors import ServiceMalformed, ServiceUntrusted
from attest.attester.https import Answer, Transport
from attest.attester.jwe import b64url
from policy.errors import CvmError
from policy.strictjson import strict_json

TYPE = "cvm-answer+jwt"
PREFIX = "/kbs/v0"
MAX_PROOF = 4096
_PROOF = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


class Curve(NamedTuple):
    """What a curve's keys sign with: JWS name, curve, hash, bytes of a coordinate."""

    alg: str
    curve: ec.EllipticCurve
    digest: hashes.HashAlgorithm
    size: int


CURVES = {
    "P-256": Curve("ES256", ec.SECP256R1(), hashes.SHA256(), 32),
    "P-384": Curve("ES384", ec.SECP384R1(), hashes.SHA384(), 48),
}


class Asked(NamedTuple):
    """A request of ours."""

    challenge: str
    method: str
    path: str


class ProvenTransport:
    """A transport that passes on proven answers only. ``tell_time`` gets the signed time of each, Unix seconds."""

    def __init__(
        self,
        inner: Transport,
        pins: tuple[str, ...],
        *,
        random: Callable[[int], bytes] = os.urandom,
        tell_time: Callable[[int], None] = lambda seconds: None,
    ) -> None:
        self._inner = inner
        self._pins = pins
        self._random = random
        self._tell_time = tell_time
        self._nonce = ""
        self._key = ""

    def send(
        self, method: str, path: str, body: bytes | None, cookie: str | None, challenge: str | None = None
    ) -> Answer:
        """See :class:`attest.attester.https.Transport`. Raises ServiceUntrusted."""
        asked = Asked(b64url(self._random(32)), method, path)
        if path == f"{PREFIX}/auth":
            self._nonce = self._key = ""
        answer = self._inner.send(method, path, body, cookie, asked.challenge)
        if answer.proof is None and (answer.status == 429 or answer.status >= 500):
            return answer
        statement = check_proof(answer, asked, self._pins)
        if path == f"{PREFIX}/attest" and body is not None:
            self._key = _own_key(body)
        self._check_session(statement, answer, path)
        if path == f"{PREFIX}/auth" and answer.status == 200:
            self._nonce = _nonce(answer.body)
        time = statement.get("time")
        if not isinstance(time, int) or isinstance(time, bool):
            raise ServiceUntrusted("proof: time is not a whole number")
        self._tell_time(time)
        return answer

    def _check_session(self, statement: dict[str, object], answer: Answer, path: str) -> None:
        """(5)"""
        if path == f"{PREFIX}/auth" or answer.status != 200:
            return
        for name, own in (("nonce", self._nonce), ("key", self._key)):
            if not own or statement.get(name) != own:
                raise ServiceUntrusted(f"proof: it is about another {name} than this session's")


def check_proof(answer: Answer, asked: Asked, pins: tuple[str, ...]) -> dict[str, object]:
    """(1) to (4); what the proof says. Raises ServiceUntrusted."""
    match = _PROOF.fullmatch(answer.proof or "")
    if match is None or len(answer.proof or "") > MAX_PROOF:
        raise ServiceUntrusted("proof: the answer carries none, and cvm.pin demands it")
    try:
        header, statement = (_object(part) for part in match.groups()[:2])
        signature = _decode(match[3])
    except CvmError as exc:
        raise ServiceUntrusted(f"proof: {exc.message}") from None
    curve, public = _pinned_key(header, pins)
    if header.get("typ") != TYPE or header.get("alg") != curve.alg or "crit" in header:
        raise ServiceUntrusted(f"proof: header is not typ {TYPE}, alg {curve.alg}")
    _verify(curve, public, signature, f"{match[1]}.{match[2]}".encode())
    want: dict[str, object] = {
        **asked._asdict(),
        "status": answer.status,
        "body": b64url(hashlib.sha256(answer.body).digest()),
    }
    for name, value in want.items():
        if statement.get(name) != value or isinstance(statement.get(name), bool):
            raise ServiceUntrusted(f"proof: it is about another {name}")
    return statement


def thumbprint(jwk: object) -> str:
    """RFC 7638 thumbprint of an EC key, the form ``cvm.pin`` has; raises ServiceMalformed."""
    if not isinstance(jwk, dict) or not all(isinstance(jwk.get(name), str) for name in ("kty", "crv", "x", "y")):
        raise ServiceMalformed("key: want an EC JWK")
    text = f'{{"crv":"{jwk["crv"]}","kty":"{jwk["kty"]}","x":"{jwk["x"]}","y":"{jwk["y"]}"}}'
    return b64url(hashlib.sha256(text.encode()).digest())


def _pinned_key(header: dict[str, object], pins: tuple[str, ...]) -> tuple[Curve, ec.EllipticCurvePublicKey]:
    """(2)"""
    jwk = header.get("jwk")
    try:
        pinned = thumbprint(jwk) in pins
    except ServiceMalformed as exc:
        raise ServiceUntrusted(f"proof: {exc.message}") from None
    curve = CURVES.get(jwk["crv"]) if isinstance(jwk, dict) and jwk.get("kty") == "EC" else None
    if not pinned or curve is None or not isinstance(jwk, dict):
        raise ServiceUntrusted("proof: signed by a key that cvm.pin does not name")
    x, y = _coordinate(jwk["x"], curve), _coordinate(jwk["y"], curve)
    try:
        return curve, ec.EllipticCurvePublicNumbers(x, y, curve.curve).public_key()
    except ValueError:
        raise ServiceUntrusted("proof: its key is no point of its curve") from None


def _coordinate(text: str, curve: Curve) -> int:
    try:
        data = _decode(text)
    except CvmError as exc:
        raise ServiceUntrusted(f"proof: key: {exc.message}") from None
    if len(data) != curve.size:
        raise ServiceUntrusted(f"proof: key: coordinate of {len(data)} bytes, want {curve.size}")
    return int.from_bytes(data, "big")


def _verify(curve: Curve, public: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> None:
    """(3) RFC 7518 section 3.4: r and s, each as long as a coordinate."""
    if len(signature) != 2 * curve.size:
        raise ServiceUntrusted(f"proof: signature of {len(signature)} bytes, want {2 * curve.size}")
    r, s = (int.from_bytes(part, "big") for part in (signature[: curve.size], signature[curve.size :]))
    try:
        public.verify(encode_dss_signature(r, s), message, ec.ECDSA(curve.digest))
    except InvalidSignature:
        raise ServiceUntrusted("proof: the signature does not fit") from None


def _own_key(request: bytes) -> str:
    body = strict_json(request, "attest", error=ServiceMalformed)
    return thumbprint(body["runtime-data"]["tee-pubkey"])


def _nonce(body: bytes) -> str:
    found = strict_json(body, "auth", error=ServiceMalformed)
    nonce = found.get("nonce") if isinstance(found, dict) else None
    return nonce if isinstance(nonce, str) else ""


def _object(part: str) -> dict[str, object]:
    found = strict_json(_decode(part), "JWS", max_bytes=MAX_PROOF, error=ServiceMalformed)
    if not isinstance(found, dict):
        raise ServiceMalformed("JWS: not an object")
    return found


def _decode(text: str) -> bytes:
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise ServiceMalformed("not base64url") from None
    if b64url(data) != text:
        raise ServiceMalformed("not base64url without stray bits")
    return data
