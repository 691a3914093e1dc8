"""Verified claims under the names Trustee gives them, for its policies and for those who read tokens as it writes them.

Numbers are numbers, flags are flags, bytes are lower-case hexadecimal digits in the order of the wire.
"""

from __future__ import annotations

from typing import Any

from policy.claims import SnpClaims, TdxClaims, TeeClaims

TEE_TYPE_TDX = "81000000"
INTEL_QE = "939a7233f79c4ca9940a0db3957f0607"
"""A quote that Intel's chain vouches for was signed by Intel's quoting enclave; its header says so in these words."""


def trustee_names(claims: TeeClaims) -> dict[str, Any]:
    """What stands beside each other under ``snp`` or ``tdx``; nothing of its own for other kinds."""
    if isinstance(claims, SnpClaims):
        return _snp(claims)
    return _tdx(claims) if isinstance(claims, TdxClaims) else {}


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
        "tcb_date": f"{tcb.tcb_date:%Y-%m-%dT%H:%M:%SZ}",
        "advisory_ids": list(tcb.advisory_ids),
        "collateral_expiration_status": "0",  # expired collateral never gets this far
    }


def _wire(value: int) -> str:
    return int(value).to_bytes(8, "little").hex()
