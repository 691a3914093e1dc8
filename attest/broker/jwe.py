"""JWE for a guest's key: the flattened JSON serialisation the KBS clients understand (RFC 7516, RFC 7518).

The content is always A256GCM under a fresh 256-bit key, which is wrapped either with ECDH-ES+A256KW (RFC 7518 section
4.6: Concat KDF with SHA-256, empty apu and apv, then RFC 3394) or with RSA-OAEP-256 (SHA-256 and MGF1-SHA-256).

The real client does not authenticate the ``protected`` text it received: it parses it and writes it again, compact,
``alg`` first, ``enc`` second, the rest in alphabetical order. So the header must be exactly
``{"alg":…,"enc":"A256GCM","epk":{"crv":…,"kty":"EC","x":…,"y":…}}``; any other spelling of the same header does not
decrypt. All five members must be present and ``aad`` absent.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from attest.broker.jwk import CURVES, ECDH_ES_A256KW, RSA_OAEP_256, Curve, TeePublicKey
from policy.secret import SecretBytes

_CEK_BYTES = 32
_IV_BYTES = 12
_TAG_BYTES = 16
_KEK_BITS = 256


def encrypt(
    recipient: TeePublicKey, value: SecretBytes, *, random: Callable[[int], bytes] = os.urandom
) -> dict[str, str]:
    """The five members ``protected``, ``encrypted_key``, ``iv``, ``ciphertext``, ``tag``, each base64url."""
    content_key = random(_CEK_BYTES)
    header, encrypted_key = _wrap(recipient, content_key)
    protected = _base64url(json.dumps(header, separators=(",", ":")).encode("ascii"))
    iv = random(_IV_BYTES)
    sealed = AESGCM(content_key).encrypt(iv, value.reveal(), protected.encode("ascii"))
    return {
        "protected": protected,
        "encrypted_key": _base64url(encrypted_key),
        "iv": _base64url(iv),
        "ciphertext": _base64url(sealed[:-_TAG_BYTES]),
        "tag": _base64url(sealed[-_TAG_BYTES:]),
    }


def _wrap(recipient: TeePublicKey, content_key: bytes) -> tuple[dict[str, object], bytes]:
    """The protected header in the order that counts, and the wrapped content key."""
    if isinstance(recipient.key, rsa.RSAPublicKey):
        oaep = padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None)
        return {"alg": RSA_OAEP_256, "enc": "A256GCM"}, recipient.key.encrypt(content_key, oaep)
    curve = CURVES[recipient.members["crv"]]
    ephemeral = ec.generate_private_key(curve.curve)
    wrapping_key = _concat_kdf(ephemeral.exchange(ec.ECDH(), recipient.key))
    header: dict[str, object] = {"alg": ECDH_ES_A256KW, "enc": "A256GCM", "epk": _epk(curve, ephemeral.public_key())}
    return header, aes_key_wrap(wrapping_key, content_key)


def _concat_kdf(shared: bytes) -> bytes:
    """``SHA256(00000001 ‖ Z ‖ len ‖ alg ‖ 0 ‖ 0 ‖ 256)``: RFC 7518 section 4.6.2 with empty PartyUInfo, PartyVInfo."""
    algorithm = ECDH_ES_A256KW.encode("ascii")
    other = len(algorithm).to_bytes(4, "big") + algorithm + bytes(8) + _KEK_BITS.to_bytes(4, "big")
    return ConcatKDFHash(SHA256(), _KEK_BITS // 8, other).derive(shared)


def _epk(curve: Curve, key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    x, y = (_base64url(number.to_bytes(curve.size, "big")) for number in (numbers.x, numbers.y))
    return {"crv": curve.name, "kty": "EC", "x": x, "y": y}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
