"""Every rule about an SEV-SNP report, in the order of a decision, and the comparisons that are not made.

Every field of a report is either compared by a rule below or by the verifier, or named here.

Comparisons deliberately *not* made:

* REPORT_DATA against a challenge: the verifier does it (step "binding"), where the nonce and key are known. A policy
  can only name one fixed value, which serves statements without a challenge.
* LAUNCH_TCB against CURRENT_TCB: honest machines differ after a firmware update without reboot of the guest; a floor
  that applies to LAUNCH_TCB is what a downgrade at launch fails.
* LAUNCH_MIT_VECTOR against CURRENT_MIT_VECTOR: the host can switch mitigations on in a running system.
* Mitigation bits by name: no public source says what they mean; AMD promises them in its bulletins.
* Demands of the guest policy against PLATFORM_INFO (RAPL, ciphertext hiding, SMT): the firmware refuses to launch a
  guest whose demands the platform does not meet. The platform's bits have rules of their own.
* MASK_CHIP_KEY: with it set no VCEK signs. What signed is compared (``snp.signing-key``), the chip id by the verifier.
* AUTHOR_KEY_DIGEST where AUTHOR_KEY_EN is 0: meaningless there; a policy that lists author keys refuses such a report.
* FAMILY_ID, IMAGE_ID, GUEST_SVN against the ID block: the report holds what the signed block held; whoever relies on
  them lists the ID key, without which a host can write any.
* TCB versions as integers, firmware versions part by part: both give wrong answers.
* SIGNATURE_ALGO, reserved fields, certificate extensions: closed by parser and verifier, not a matter of policy.
"""

from __future__ import annotations

from policy import check_guest as guest
from policy import check_origin as origin
from policy import check_platform as platform
from policy.check import SnpRule
from policy.check_trust import root
from policy.claims import SnpClaims
from policy.remember import Remembered
from policy.snp_rules import SnpRules
from policy.vocab import LaunchDigest

SNP_CHECKS: tuple[SnpRule, ...] = (
    root,
    origin.revocation,
    origin.report_version,
    origin.product,
    origin.cpuid,
    origin.signing_key,
    guest.vmpl,
    guest.policy_reserved,
    guest.abi,
    *guest.PERMISSION_RULES,
    *guest.DEMAND_RULES,
    guest.migration_agent,
    platform.platform_smt,
    *platform.PLATFORM_RULES,
    platform.platform_reserved,
    *platform.TCB_RULES,
    platform.tcb_order,
    platform.provisional_firmware,
    platform.current_version,
    platform.committed_version,
    platform.launch_mitigations,
    platform.current_mitigations,
    guest.guest_svn,
    guest.family_id,
    guest.image_id,
    guest.report_data,
    guest.report_id,
    guest.host_data,
    guest.id_key,
    guest.author_key,
    origin.chip,
    origin.csp,
    guest.measurement,
)
"""Every rule, in the order in which decisions list them. All of them always run."""

SNP = Remembered[SnpClaims, SnpRules](
    SnpClaims,
    SNP_CHECKS,
    each_time=(
        guest.report_data,
        guest.report_id,
        guest.host_data,
        origin.chip,
        guest.measurement,
    ),
    left_out={
        guest.report_data: lambda rules: rules.report_data is None,
        guest.report_id: lambda rules: rules.report_ids is None,
        guest.host_data: lambda rules: rules.host_data is None,
        origin.chip: lambda rules: rules.chip_ids is None and not rules.denied_chip_ids,
    },
    soon={guest.measurement: (guest.MEASUREMENT, guest.measurement_outcome)},
    blank={
        "report_data": b"",
        "measurement": LaunchDigest(bytes(48)),
        "host_data": b"",
        "report_id": b"",
        "chip_id": b"",
    },
)
"""The rules at work; ``blank`` is what differs from guest to guest."""
