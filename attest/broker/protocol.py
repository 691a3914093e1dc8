"""Request bodies of the Confidential Containers KBS protocol: bytes become frozen values, or an error.

Two versions are served side by side. 0.4.0 (guest components 0.14 and later) repeats the nonce in ``runtime-data`` and
binds evidence of additional devices; 0.2.0 (0.12 and 0.13) sends ``tee-pubkey`` and ``tee-evidence`` alone, and the
nonce is the session's. Their key wrapping is the same. 0.1.x is not served: it wants JWE that RFC 7516 does not allow,
under RSA1_5. 0.3.0 was never released.

Source: confidential-containers/trustee ``kbs/docs/kbs_attestation_protocol.md`` and ``kbs-types``. Members this service
does not know are passed over, as the reference server does; those it knows must have the right type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from attest.broker.errors import RequestMalformed, RequestUnsupported, VersionMismatch
from attest.broker.initdata import sent_init_data
from attest.broker.jwk import TeePublicKey, parse_tee_pubkey
from attest.broker.tees import TEES
from policy.initdata import InitDataText
from policy.strictjson import strict_json

VERSION = "0.4.0"
VERSION_2 = "0.2.0"
VERSIONS = (VERSION, VERSION_2)
MAX_AUTH_BODY = 16 * 1024
MAX_ATTEST_BODY = 1 << 20
_NONCE = re.compile(r"[A-Za-z0-9+/]{43}=")


@dataclass(frozen=True, slots=True)
class AuthRequest:
    """``POST /auth``: who asks for a challenge."""

    tee: str
    version: str = VERSION


@dataclass(frozen=True, slots=True)
class AttestRequest:
    """``POST /attest``. ``evidence`` is the parsed JSON of the CPU's evidence, not yet looked at.

    ``nonce`` is ``None`` in version 0.2.0, whose body does not repeat it, until the session supplies it;
    ``additional_evidence`` is ``None`` there because that version's binding leaves it out.
    """

    nonce: str | None
    tee_pubkey: TeePublicKey
    evidence: dict[str, object]
    additional_evidence: str | None
    init_data: InitDataText | None
    version: str = VERSION


def parse_auth(body: bytes) -> AuthRequest:
    """Raises VersionMismatch in the words clients know, RequestUnsupported for a TEE we do not verify."""
    request = _object(strict_json(body, "auth", max_bytes=MAX_AUTH_BODY, error=RequestMalformed), "auth")
    version = _string(request, "version", "auth")
    if version not in VERSIONS:
        raise VersionMismatch(
            f"KBS Client Protocol Version Mismatch: expect ={VERSION} while the request is {version[:40]}"
            f" ({VERSION_2} is served too)"
        )
    tee = _string(request, "tee", "auth")
    if tee not in TEES:
        raise RequestUnsupported(f"auth: tee {tee[:40]!r}, want one of {', '.join(TEES)}")
    return AuthRequest(tee, version)


def parse_attest(body: bytes) -> AttestRequest:
    """Either version's body, told apart by ``runtime-data``, which 0.4.0 demands and 0.2.0 does not have.

    That the session was opened for the same version is checked where its nonce is consumed. Raises RequestMalformed;
    RequestUnsupported for evidence of additional devices.
    """
    request = _object(strict_json(body, "attest", max_bytes=MAX_ATTEST_BODY, error=RequestMalformed), "attest")
    if "runtime-data" not in request and "tee-pubkey" in request:
        return _version_2(request)
    runtime = _object(request.get("runtime-data"), "attest: runtime-data")
    nonce = _string(runtime, "nonce", "attest: runtime-data")
    if not _NONCE.fullmatch(nonce):
        raise RequestMalformed("attest: runtime-data: nonce: want the 44 characters of the challenge")
    evidence = _object(request.get("tee-evidence"), "attest: tee-evidence")
    return AttestRequest(
        nonce=nonce,
        tee_pubkey=parse_tee_pubkey(runtime.get("tee-pubkey")),
        evidence=_object(evidence.get("primary_evidence"), "attest: tee-evidence: primary_evidence"),
        additional_evidence=_additional(evidence.get("additional_evidence", "")),
        init_data=_init_data(request.get("init-data")),
    )


def _version_2(request: dict[str, object]) -> AttestRequest:
    """Version 0.2.0: the evidence is one object. Composite evidence came later, so a member of its name is refused."""
    evidence = _object(request.get("tee-evidence"), "attest: tee-evidence")
    if "primary_evidence" in evidence:
        raise RequestUnsupported(f"attest: tee-evidence: composite evidence is not part of version {VERSION_2}")
    return AttestRequest(
        nonce=None,
        tee_pubkey=parse_tee_pubkey(request.get("tee-pubkey")),
        evidence=evidence,
        additional_evidence=None,
        init_data=_init_data(request.get("init-data")),
        version=VERSION_2,
    )


def _additional(value: object) -> str:
    """Evidence of further devices is refused rather than passed over: nobody here could verify it."""
    if not isinstance(value, str):
        raise RequestMalformed("attest: tee-evidence: additional_evidence: want a string")
    if value == "":
        return value
    devices = _object(
        strict_json(value, "attest: additional_evidence", max_bytes=MAX_ATTEST_BODY, error=RequestMalformed),
        "attest: additional_evidence",
    )
    if devices:
        raise RequestUnsupported(f"attest: additional_evidence: device {next(iter(devices))[:40]!r} is not supported")
    return value


def _init_data(value: object) -> InitDataText | None:
    if value is None:
        return None
    table = _object(value, "attest: init-data")
    form = _string(table, "format", "attest: init-data")
    if form != "toml":
        raise RequestUnsupported(f"attest: init-data: format {form[:20]!r}, want toml")
    return sent_init_data(_string(table, "body", "attest: init-data"))


def _object(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise RequestMalformed(f"{what}: want a JSON object")
    return value


def _string(table: dict[str, object], name: str, what: str) -> str:
    value = table.get(name)
    if not isinstance(value, str):
        raise RequestMalformed(f"{what}: {name}: want a string")
    return value
