"""Files that operators sign: policies and reference values, Ed25519 or ECDSA on P-384, as DSSE envelopes.

An envelope (DSSE 1.0.2) holds the file itself, or stands beside it as ``FILE.sig`` without a payload. What is signed is
the envelope's pre-authentication encoding, ``"DSSEv1" SP len SP type SP len SP body``: the type is inside, so that a
signature of a policy says nothing about a reference value of the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP384R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from attest.errors import AttestError
from attest.keys.errors import KeyFileRefused
from attest.keys.files import read_private
from policy.dsse import LAUNCH_TYPE, pae
from policy.errors import CvmError
from policy.strictjson import strict_json

POLICY = "application/vnd.cvm.policy+toml"
REFERENCE = "application/vnd.cvm.reference+json"
LAUNCH = LAUNCH_TYPE
MAX_SIGNATURES = 16
MAX_ENVELOPE = 3 << 20
PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey
PublicKey = Ed25519PublicKey | EllipticCurvePublicKey


class SignatureRefused(AttestError):
    """A file that is not signed as the settings demand, or whose envelope does not parse."""

    code = "signature.refused"


@dataclass(frozen=True, slots=True)
class Signed:
    """A file's bytes and the signatures that came with it: (key id, raw signature). None for an unsigned file."""

    data: bytes
    signatures: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Signers:
    """Whose signatures count. ``needed`` different keys must have signed; without keys nothing is demanded."""

    keys: tuple[tuple[str, PublicKey], ...] = ()
    needed: int = 1

    @classmethod
    def load(cls, paths: Sequence[Path], needed: int) -> Signers:
        """From PEM public keys. Raises KeyFileRefused."""
        keys = {key_id(key): key for key in map(load_public, paths)}
        if len(keys) != len(paths):
            raise KeyFileRefused("signers: one key stands in two files")
        return cls(tuple(keys.items()), needed)

    def check(self, signed: Signed, kind: str, what: str) -> tuple[str, ...]:
        """The ids of the known keys that signed; raises SignatureRefused when they are too few.

        A signature by a known key that does not verify is refused whatever else is there: somebody changed the file.
        """
        known = dict(self.keys)
        message = pae(kind, signed.data)
        good = []
        for name, value in signed.signatures:
            if name in known:
                _verify(known[name], value, message, f"{what}: signature of key {name[:16]}")
                good.append(name)
        found = tuple(dict.fromkeys(good))
        if known and len(found) < self.needed:
            raise SignatureRefused(
                f"{what}: signed by {len(found)} of the operators' keys, want {self.needed} of {len(known)}",
                hint="attest policy sign FILE --key KEY; the keys are [policy] signers of the settings",
            )
        return found


def unwrap(data: bytes, kind: str, beside: bytes | None = None) -> Signed:
    """``data`` may be an envelope; ``beside`` is the content of ``FILE.sig``. Raises SignatureRefused."""
    if beside is not None:
        payload, signatures = _envelope(beside, kind)
        if payload is not None and payload != data:
            raise SignatureRefused("signature file: its payload is not the file beside it")
        return Signed(data, signatures)
    if data[:1] != b"{" or b'"payloadType"' not in data:
        return Signed(data)
    payload, signatures = _envelope(data, kind)
    if payload is None:
        raise SignatureRefused("envelope: no payload: a detached signature belongs beside its file, as FILE.sig")
    return Signed(payload, signatures)


def envelope(kind: str, signed: Signed, *, detached: bool) -> bytes:
    """The DSSE envelope as JSON."""
    body: dict[str, Any] = {} if detached else {"payload": base64.b64encode(signed.data).decode()}
    body |= {
        "payloadType": kind,
        "signatures": [{"keyid": name, "sig": base64.b64encode(value).decode()} for name, value in signed.signatures],
    }
    return (json.dumps(body, indent=1) + "\n").encode()


def signature_beside(path: Path) -> Path:
    """Where the detached signatures of a file are."""
    return path.with_name(path.name + ".sig")


def sign(private: PrivateKey, kind: str, data: bytes) -> tuple[str, bytes]:
    """(Key id, signature) over ``data`` as a file of ``kind``."""
    message = pae(kind, data)
    if isinstance(private, Ed25519PrivateKey):
        return key_id(private.public_key()), private.sign(message)
    return key_id(private.public_key()), private.sign(message, ECDSA(SHA384()))


def key_id(key: PublicKey) -> str:
    """SHA-256 of the key's SubjectPublicKeyInfo (DER), in hexadecimal."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def load_public(path: Path) -> PublicKey:
    """A PEM public key, Ed25519 or P-384."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise KeyFileRefused(f"public key {path}: {exc.strerror}") from None
    return public_key(data, f"public key {path}")


def public_key(pem: bytes, what: str) -> PublicKey:
    """The key of a PEM text. Raises KeyFileRefused, which says ``what`` it is."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileRefused(f"{what}: not a PEM public key") from None
    if isinstance(key, Ed25519PublicKey) or (isinstance(key, EllipticCurvePublicKey) and _is_p384(key)):
        return key
    raise KeyFileRefused(f"{what}: want Ed25519 or EC on P-384")


def load_private(path: Path) -> PrivateKey:
    """An unencrypted PEM private key that only this user can read, Ed25519 or P-384."""
    try:
        key = load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileRefused(f"private key {path}: not an unencrypted PEM private key") from None
    if isinstance(key, Ed25519PrivateKey) or (isinstance(key, EllipticCurvePrivateKey) and _is_p384(key.public_key())):
        return key
    raise KeyFileRefused(f"private key {path}: want Ed25519 or EC on P-384")


def _is_p384(key: EllipticCurvePublicKey) -> bool:
    return isinstance(key.curve, SECP384R1)


def _verify(key: PublicKey, signature: bytes, message: bytes, what: str) -> None:
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, ECDSA(SHA384()))
    except InvalidSignature:
        raise SignatureRefused(f"{what} does not fit the file", code="signature.wrong") from None


def _envelope(data: bytes, kind: str) -> tuple[bytes | None, tuple[tuple[str, bytes], ...]]:
    try:
        body = strict_json(data, "envelope", max_bytes=MAX_ENVELOPE)
    except CvmError as exc:
        raise SignatureRefused(exc.message) from None
    if not isinstance(body, dict) or not set(body) <= {"payload", "payloadType", "signatures"}:
        raise SignatureRefused("envelope: want an object of payload, payloadType, signatures")
    if body.get("payloadType") != kind:
        raise SignatureRefused(f"envelope: payloadType {str(body.get('payloadType'))[:60]!r}, want {kind!r}")
    listed = body.get("signatures")
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_SIGNATURES:
        raise SignatureRefused(f"envelope: signatures: want a list of 1 to {MAX_SIGNATURES}")
    payload = None if "payload" not in body else _base64(body["payload"], "payload")
    return payload, tuple(_signature(entry) for entry in listed)


def _signature(entry: object) -> tuple[str, bytes]:
    if not isinstance(entry, dict) or set(entry) != {"keyid", "sig"} or not isinstance(entry["keyid"], str):
        raise SignatureRefused("envelope: a signature wants exactly keyid and sig")
    return entry["keyid"], _base64(entry["sig"], "sig")


def _base64(value: object, what: str) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else "?", validate=True)
    except ValueError:
        raise SignatureRefused(f"envelope: {what} is not base64") from None
