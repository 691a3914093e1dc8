"""The guest's ephemeral key, and opening what the service wraps to it.

Flattened JWE JSON (RFC 7516), ``ECDH-ES+A256KW`` on P-256 with ``A256GCM`` and nothing else. The additional
authenticated data is the protected header *as the Confidential Containers client writes it again* (compact JSON:
``alg``, ``enc``, then the rest in order), not the bytes received: a service that works with this agent works with
theirs.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from struct import pack

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from attest.attester.errors import ServiceMalformed
from policy.secret import SecretBytes
from policy.strictjson import strict_json

ALG = "ECDH-ES+A256KW"
ENC = "A256GCM"
CURVE = "P-256"
COORDINATE_BYTES = 32
MAX_HEADER = 2048
_B64URL = re.compile(r"[A-Za-z0-9_-]*")


class GuestKey:
    """A P-256 key that lives as long as one handshake. The private half leaves it only as :meth:`pem`."""

    def __init__(self) -> None:
        self._private = ec.generate_private_key(ec.SECP256R1())

    def jwk(self) -> dict[str, str]:
        """The public half as the protocol's ``tee-pubkey``, all values strings."""
        numbers = self._private.public_key().public_numbers()
        return {
            "kty": "EC",
            "crv": CURVE,
            "alg": ALG,
            "x": b64url(numbers.x.to_bytes(COORDINATE_BYTES, "big")),
            "y": b64url(numbers.y.to_bytes(COORDINATE_BYTES, "big")),
        }

    def pem(self) -> bytes:
        """The private half, PKCS #8 PEM in clear: for programs in the same guest that open what is wrapped to it."""
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def open(self, message: object) -> SecretBytes:
        """The plaintext of the flattened JWE ``message`` (a parsed JSON object); raises :class:`ServiceMalformed`."""
        names = ("protected", "encrypted_key", "iv", "ciphertext", "tag")
        if not isinstance(message, dict) or set(message) != set(names):
            raise ServiceMalformed(f"JWE: want an object with exactly the members {', '.join(names)}")
        protected, wrapped, iv, ciphertext, tag = (_decode(message[name], name) for name in names)
        if len(wrapped) != 40 or len(iv) != 12 or len(tag) != 16:
            raise ServiceMalformed(f"JWE: key, iv, tag of {len(wrapped)}, {len(iv)}, {len(tag)} bytes, want 40, 12, 16")
        x, y = _ephemeral(protected)
        try:
            content_key = aes_key_unwrap(self._agree(x, y), wrapped)
            return SecretBytes(AESGCM(content_key).decrypt(iv, ciphertext + tag, _aad(x, y)))
        except InvalidUnwrap:
            raise ServiceMalformed("JWE: encrypted_key is not wrapped to this guest's key") from None
        except InvalidTag:
            raise ServiceMalformed("JWE: tag does not match ciphertext and protected header") from None

    def agree(self, point: bytes) -> bytes:
        """The secret shared with an uncompressed point, for `policy.exec_channel`, whose key derivation has another
        name than the one below. Raises :class:`policy.exec_channel.ExecMalformed`.
        """
        from policy.exec_channel import public_point

        return self._private.exchange(ec.ECDH(), public_point(point))

    def _agree(self, x: bytes, y: bytes) -> bytes:
        """Concat KDF, one round of SHA-256 (NIST SP 800-56A; RFC 7518 section 4.6.2), apu and apv empty."""
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
        try:
            shared = self._private.exchange(ec.ECDH(), numbers.public_key())
        except ValueError:
            raise ServiceMalformed("JWE: epk is not a point on P-256") from None
        other_info = pack(">I", len(ALG)) + ALG.encode() + bytes(8) + pack(">I", 256)
        return hashlib.sha256(pack(">I", 1) + shared + other_info).digest()


def b64url(data: bytes) -> str:
    """base64url without padding (RFC 7515 section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(value: object, name: str) -> bytes:
    if not isinstance(value, str) or not _B64URL.fullmatch(value) or len(value) % 4 == 1:
        raise ServiceMalformed(f"JWE: {name} is not base64url without padding")
    data = urlsafe_b64decode(value + "=" * (-len(value) % 4))
    if b64url(data) != value:
        raise ServiceMalformed(f"JWE: {name} has stray bits in its last character")
    return data


def _ephemeral(protected: bytes) -> tuple[bytes, bytes]:
    """The service's ephemeral point from the protected header, every other member checked."""
    header = strict_json(protected, "JWE protected header", max_bytes=MAX_HEADER, error=ServiceMalformed)
    if not isinstance(header, dict) or set(header) != {"alg", "enc", "epk"}:
        raise ServiceMalformed("JWE protected header: want exactly the members alg, enc, epk")
    if header["alg"] != ALG or header["enc"] != ENC:
        raise ServiceMalformed(
            f"JWE protected header: alg {header['alg']!r:.40}, enc {header['enc']!r:.40}, want {ALG}, {ENC}"
        )
    epk = header["epk"]
    if not isinstance(epk, dict) or set(epk) != {"crv", "kty", "x", "y"} or (epk["crv"], epk["kty"]) != (CURVE, "EC"):
        raise ServiceMalformed("JWE protected header: epk must be an EC key on P-256 with exactly crv, kty, x, y")
    x, y = _decode(epk["x"], "epk.x"), _decode(epk["y"], "epk.y")
    if len(x) != COORDINATE_BYTES or len(y) != COORDINATE_BYTES:
        raise ServiceMalformed(
            f"JWE protected header: epk coordinates of {len(x)}, {len(y)} bytes, want {COORDINATE_BYTES}"
        )
    return x, y


def _aad(x: bytes, y: bytes) -> bytes:
    """The protected header in the client's own spelling, base64url, as ASCII."""
    epk = f'{{"crv":"{CURVE}","kty":"EC","x":"{b64url(x)}","y":"{b64url(y)}"}}'
    return b64url(f'{{"alg":"{ALG}","enc":"{ENC}","epk":{epk}}}'.encode()).encode("ascii")
