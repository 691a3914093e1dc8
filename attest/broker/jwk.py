"""The guest's public key (``tee-pubkey``), as the KBS protocol sends it: a JWK that also says how to wrap for it.

Accepted: ``EC`` on P-256 or P-521 with ``ECDH-ES+A256KW``, and ``RSA`` of 2048 to 8192 bits with ``RSA-OAEP-256``
(RFC 7518). ``RSA1_5`` is refused: its padding is an oracle. Only the members the protocol's own type has are kept,
because exactly those are what the guest hashed into REPORT_DATA.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from attest.broker.errors import RequestMalformed, RequestUnsupported

ECDH_ES_A256KW = "ECDH-ES+A256KW"
RSA_OAEP_256 = "RSA-OAEP-256"
_RSA_BITS = range(2048, 8193)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve of this protocol: its JWK name, and the bytes of one coordinate."""

    name: str
    curve: ec.EllipticCurve
    size: int


CURVES = {entry.name: entry for entry in (Curve("P-256", ec.SECP256R1(), 32), Curve("P-521", ec.SECP521R1(), 66))}


@dataclass(frozen=True, slots=True)
class TeePublicKey:
    """A parsed key. ``members`` are the JWK's members as received; ``algorithm`` is the JWE ``alg`` to wrap with."""

    members: dict[str, str]
    algorithm: str
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def parse_tee_pubkey(value: object) -> TeePublicKey:
    """From the parsed JSON value. Raises RequestMalformed, or RequestUnsupported naming what is not offered."""
    if not isinstance(value, dict):
        raise RequestMalformed("tee-pubkey: want a JSON object (JWK)")
    kind = value.get("kty")
    if kind == "EC":
        return _ec(value)
    if kind == "RSA":
        return _rsa(value)
    raise RequestUnsupported(f"tee-pubkey: kty {_shown(kind)}, want EC or RSA")


def _ec(value: dict[str, object]) -> TeePublicKey:
    members = {name: _text(value, name) for name in ("alg", "crv", "kty", "x", "y")}
    if members["alg"] != ECDH_ES_A256KW:
        raise RequestUnsupported(f"tee-pubkey: alg {_shown(members['alg'])}, want {ECDH_ES_A256KW} for an EC key")
    curve = CURVES.get(members["crv"])
    if curve is None:
        raise RequestUnsupported(f"tee-pubkey: crv {_shown(members['crv'])}, want one of {', '.join(CURVES)}")
    return TeePublicKey(members, ECDH_ES_A256KW, _point(curve.name, members["x"], members["y"]))


@lru_cache(256)
def _point(name: str, *coordinates: str) -> ec.EllipticCurvePublicKey:
    """From x and y as the JWK has them. A guest's key is looked at when it attests and when it asks for a resource."""
    curve = CURVES[name]
    x, y = (_integer(text, member, curve.size) for member, text in zip("xy", coordinates, strict=True))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve.curve).public_key()
    except ValueError:
        raise RequestMalformed(f"tee-pubkey: x, y is not a point of {name}") from None


def _rsa(value: dict[str, object]) -> TeePublicKey:
    members = {name: _text(value, name) for name in ("alg", "e", "kty", "n")}
    if members["alg"] != RSA_OAEP_256:
        raise RequestUnsupported(f"tee-pubkey: alg {_shown(members['alg'])}, want {RSA_OAEP_256} for an RSA key")
    modulus, exponent = _integer(members["n"], "n"), _integer(members["e"], "e")
    if modulus.bit_length() not in _RSA_BITS:
        raise RequestMalformed(f"tee-pubkey: RSA key of {modulus.bit_length()} bits, want 2048 to 8192")
    if exponent < 65537 or exponent >= 2**32 or exponent % 2 == 0 or modulus % 2 == 0:
        raise RequestMalformed("tee-pubkey: e: want an odd number from 65537 to 2^32, and n odd")
    try:
        key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as exc:
        raise RequestMalformed(f"tee-pubkey: not an RSA key: {exc}") from None
    return TeePublicKey(members, RSA_OAEP_256, key)


def _text(value: dict[str, object], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not text.isascii() or not 0 < len(text) <= 2048:
        raise RequestMalformed(f"tee-pubkey: {name}: want a string of 1 to 2048 ASCII characters")
    return text


def _integer(text: str, name: str, size: int | None = None) -> int:
    """A big-endian integer in base64url without padding; ``size`` bytes exactly, or without leading zeros."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if _BASE64URL.fullmatch(text) else b""
    except (binascii.Error, ValueError):
        data = b""
    if not data or base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise RequestMalformed(f"tee-pubkey: {name}: want base64url without padding")
    if size is not None and len(data) != size:
        raise RequestMalformed(f"tee-pubkey: {name}: got {len(data)} bytes, want {size}")
    if size is None and data[0] == 0:
        raise RequestMalformed(f"tee-pubkey: {name}: begins with a zero byte, want the shortest form")
    return int.from_bytes(data, "big")


def _shown(value: object) -> str:
    return repr(value)[:60]
