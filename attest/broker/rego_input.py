"""What policies written for Trustee find in ``input``: verified claims under Trustee's names.

Both shapes that its shipped policies read are there: flat names beside each other (``input.snp.reported_tcb_snp``) and,
as in later releases, the report itself (``input.snp.evidence.reported_tcb.snp``). Numbers are numbers, flags are flags,
bytes are lower-case hexadecimal digits in the order of the wire. Values of ours that Trustee does not have are under
``input.cvm``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attest.evidence.event_types import TYPE_NAMES
from policy.claims import SnpClaims, TdxClaims, TeeClaims, claims_json
from policy.decide import Decision
from policy.measured import MeasuredEvent

TEE_TYPE_TDX = "81000000"
INTEL_QE = "939a7233f79c4ca9940a0db3957f0607"
"""A quote that Intel's chain vouches for was signed by Intel's quoting enclave; its header says so in these words."""


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
    policy, platform, tcb = claims.policy, claims.platform_info, claims.reported_tcb.parts()
    return {
        "measurement": claims.measurement.hex(),
        "chip_id": claims.chip_id.hex(),
        "policy_abi_major": policy.abi_major,
        "policy_abi_minor": policy.abi_minor,
        "policy_smt_allowed": policy.smt,
        "policy_migrate_ma": policy.migrate_ma,
        "policy_debug_allowed": policy.debug,
        "policy_single_socket": policy.single_socket,
        "platform_smt_enabled": platform.smt_en,
        "platform_tsme_enabled": platform.tsme_en,
        **{f"reported_tcb_{part}": number for part, number in tcb.items()},
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
    attributes, tcb = claims.td_attributes, claims.tcb
    registers = {f"rtmr_{number}": value.hex() for number, value in enumerate(claims.rtmrs)}
    return {
        "quote": {
            "header": {"version": claims.version, "tee_type": TEE_TYPE_TDX, "vendor_id": INTEL_QE},
            "body": {
                "tcb_svn": claims.tee_tcb_svn.hex(),
                "mr_seam": claims.mrseam.hex(),
                "mrsigner_seam": claims.mrsignerseam.hex(),
                "seam_attributes": _wire(claims.seamattributes),
                "td_attributes": _wire(attributes),
                "xfam": _wire(claims.xfam),
                "mr_td": claims.mrtd.hex(),
                "mr_config_id": claims.mrconfigid.hex(),
                "mr_owner": claims.mrowner.hex(),
                "mr_owner_config": claims.mrownerconfig.hex(),
                **registers,
                "report_data": claims.report_data.hex(),
            },
        },
        "td_attributes": {
            "debug": attributes.debug,
            "septve_disable": attributes.sept_ve_disable,
            "key_locker": attributes.bit(attributes.KL),
            "protection_keys": attributes.bit(attributes.PKS),
            "perfmon": attributes.bit(attributes.PERFMON),
        },
        "tcb_status": tcb.status.value,
        "tcb_date": claims_json(claims)["tcb"]["tcb_date"],  # type: ignore[index]  # an object in JSON
        "advisory_ids": list(tcb.advisory_ids),
        "collateral_expiration_status": "0",  # expired collateral never gets this far
        **({} if claims.events is None else {"uefi_event_logs": [_event(event) for event in claims.events]}),
    }


def _wire(value: int) -> str:
    return int(value).to_bytes(8, "little").hex()


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
