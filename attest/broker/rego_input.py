"""What policies written for Trustee find in ``input``: verified claims under Trustee's names.

Both shapes that its shipped policies read are there: flat names beside each other (``input.snp.reported_tcb_snp``) and,
as in later releases, the report itself (``input.snp.evidence.reported_tcb.snp``). Values of ours that Trustee does not
have are under ``input.cvm``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attest.broker.trustee_names import trustee_names
from attest.evidence.event_types import TYPE_NAMES
from policy.claims import SnpClaims, TdxClaims, TeeClaims, claims_json
from policy.decide import Decision
from policy.measured import MeasuredEvent


def evidence_input(claims: TeeClaims) -> dict[str, Any]:
    """``input`` of an attestation policy; also the annotated evidence of the claims a resource policy sees."""
    if isinstance(claims, SnpClaims):
        found, bound = {"snp": _snp(claims)}, claims.host_data
    elif isinstance(claims, TdxClaims):
        found, bound = {"tdx": _tdx(claims)}, claims.mrconfigid
    else:
        found, bound = {"sgx": claims_json(claims)}, claims.configid
    ours = {"root": claims.root, "emulated": claims.emulated, "revocation": claims.revocation}
    return {**found, "report_data": claims.report_data.hex(), "init_data": bound.hex(), "cvm": ours}


def result_claims(claims: TeeClaims, decision: Decision, runtime: Mapping[str, Any]) -> dict[str, Any]:
    """The attestation result a resource policy sees: the claims of a token in Trustee's dialect, evidence annotated.

    ``runtime`` is what the guest bound into its report: nonce and public key.
    """
    module = {
        "ear.status": decision.verdict,
        "ear.trustworthiness-vector": dict(decision.trust_vector),
        "ear.appraisal-policy-id": decision.policy_name,
        "ear.veraison.annotated-evidence": {**evidence_input(claims), "runtime_data_claims": dict(runtime)},
    }
    return {"submods": {"cpu0": module}}


def _snp(claims: SnpClaims) -> dict[str, Any]:
    policy, platform = claims.policy, claims.platform_info
    return {
        **trustee_names(claims),
        "evidence": {
            **claims_json(claims),
            "policy": {
                "abi_major": policy.abi_major,
                "abi_minor": policy.abi_minor,
                "smt_allowed": policy.smt,
                "migrate_ma_allowed": policy.migrate_ma,
                "debug_allowed": policy.debug,
                "single_socket_required": policy.single_socket,
            },
            "plat_info": {
                "smt_enabled": platform.smt_en,
                "tsme_enabled": platform.tsme_en,
                "ecc_enabled": platform.ecc_en,
                "rapl_disabled": platform.rapl_dis,
                "ciphertext_hiding_enabled": platform.ciphertext_hiding,
                "alias_check_complete": platform.alias_check_complete,
            },
        },
    }


def _tdx(claims: TdxClaims) -> dict[str, Any]:
    events = None if claims.events is None else [_event(event) for event in claims.events]
    return trustee_names(claims) | ({} if events is None else {"uefi_event_logs": events})


def _event(event: MeasuredEvent) -> dict[str, Any]:
    """The few members Trustee's policies look at. What a register does not cover is left out, for a policy would rely
    on it, but for a device path, which says only which digest is the kernel's.
    """
    details: dict[str, Any] = {}
    if event.name == "application":
        details["device_paths"] = event.detail.split("/")
    elif event.name == "load-options":
        details["string"] = "LOADED_IMAGE::LoadOptions"
    elif event.proven:
        details["string"] = event.detail
    return {
        "index": event.register + 1,
        "type_name": TYPE_NAMES.get(event.type, f"{event.type:#x}"),
        "digests": [{"alg": "SHA-384", "digest": event.digest.hex()}],
        "details": details,
    }
