"""The administration calls of Trustee's own client beside resources: policies in Rego, and values they compare with.

Paths, bodies and the empty answer 200 are those of ``kbs-client config …``. What it cannot mean here is refused with
the reason: policies for other devices than the CPU, other kinds of reference values.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from flask import Response

from attest.broker.errors import RequestMalformed, RequestUnsupported, ResourceUnknown
from attest.broker.rego_documents import Rego, sample_values, values_json
from attest.settings_roles import Duty
from attest.web.handling import operator
from attest.web.principals import Who
from attest.web.routes import Call, Route
from policy.rego_rules import MAX_REGO
from policy.strictjson import strict_json

ATTESTATION, RESOURCE_POLICY, REFERENCE = (
    f"/kbs/v0/{name}" for name in ("attestation-policy", "resource-policy", "reference-value")
)
POLICY_IDS = ("default", "default_cpu")
MESSAGE_VERSION, SAMPLE = "0.1.0", "sample"
MAX_BODY = 2 * MAX_REGO


def set_attestation_policy(call: Call) -> Response:
    """``POST`` ``{"type": "rego", "policy_id": …, "policy": base64url}``."""
    body = _body(call, "attestation-policy")
    kind, name = _word(body, "type"), _word(body, "policy_id")
    if kind != "rego":
        raise RequestUnsupported(f"attestation-policy: type {kind[:20]!r}, want rego")
    if name not in POLICY_IDS:
        wanted = " or ".join(POLICY_IDS)
        raise RequestUnsupported(
            f"attestation-policy: policy_id {name[:60]!r}, want {wanted}: there is one policy, for CPUs"
        )
    _rego(call).set_attestation(_policy(body), operator(call))
    return Response(status=200)


def set_resource_policy(call: Call) -> Response:
    """``POST`` ``{"policy": base64url}``."""
    _rego(call).set_resource(_policy(_body(call, "resource-policy")), operator(call))
    return Response(status=200)


def show_resource_policy(call: Call) -> Response:
    """``GET``: its text."""
    text = _rego(call).current().resource
    if text is None:
        raise ResourceUnknown("resource-policy: none is in force")
    return Response(text, mimetype="text/plain")


def add_reference_value(call: Call) -> Response:
    """``POST`` ``{"version": "0.1.0", "type": "sample", "payload": base64 of {name: value}}``."""
    body = _body(call, "reference-value")
    version, kind = _word(body, "version"), _word(body, "type")
    if (version, kind) != (MESSAGE_VERSION, SAMPLE):
        got = f"version {version[:20]!r}, type {kind[:20]!r}"
        raise RequestUnsupported(f"reference-value: {got}, want {MESSAGE_VERSION!r} and {SAMPLE!r}")
    values = sample_values(_decoded(_word(body, "payload"), None, "payload"))
    _rego(call).add_values(values, operator(call))
    return Response(status=200)


def show_reference_values(call: Call) -> Response:
    """``GET``: every value by name, or the one of a name."""
    name = call.arguments.get("name")
    text = values_json(_rego(call).current(), name)
    if text is None:
        raise ResourceUnknown(f"reference value {(name or '')[:80]!r}: not found")
    return Response(text, mimetype="application/json")


def _rego(call: Call) -> Rego:
    return Rego(call.service.database, call.service.signers)


def _body(call: Call, what: str) -> dict[str, Any]:
    found = strict_json(call.body, what, max_bytes=MAX_BODY, error=RequestMalformed)
    if not isinstance(found, dict):
        raise RequestMalformed(f"{what}: want a JSON object")
    return found


def _word(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise RequestMalformed(f"{name}: want a string")
    return value


def _policy(body: dict[str, Any]) -> str:
    try:
        return _decoded(_word(body, "policy"), b"-_", "policy").decode("utf-8")
    except UnicodeDecodeError as exc:
        raise RequestMalformed(f"policy: byte {exc.start} is not UTF-8") from None


def _decoded(text: str, alphabet: bytes | None, what: str) -> bytes:
    """Base64: the client sends policies in the URL alphabet without padding, values in the other with it."""
    padded = text + "=" * (-len(text) % 4) if alphabet else text
    try:
        return base64.b64decode(padded, alphabet, validate=True)
    except (binascii.Error, ValueError):
        kind = "base64url" if alphabet else "base64"
        raise RequestMalformed(f"{what}: want {kind}") from None


TRUSTEE_ADMIN_ROUTES = (
    Route("POST", ATTESTATION, Who.OPERATOR, set_attestation_policy, MAX_BODY, duty=Duty.POLICY),
    Route("POST", RESOURCE_POLICY, Who.OPERATOR, set_resource_policy, MAX_BODY, duty=Duty.POLICY),
    Route("GET", RESOURCE_POLICY, Who.AUDITOR, show_resource_policy),
    Route("POST", REFERENCE, Who.OPERATOR, add_reference_value, MAX_BODY, duty=Duty.REFERENCE),
    Route("GET", REFERENCE, Who.AUDITOR, show_reference_values),
    Route("GET", f"{REFERENCE}/<name>", Who.AUDITOR, show_reference_values),
)
