"""One small function per rule of an appraisal policy. Each returns a :class:`Check`; none of them decides.

``clause`` says which rule of the policy was applied and why it exists, so that a decision explains itself years later.

Comparisons deliberately *not* made:

* REPORT_DATA: already compared by the verifier (step "binding"), where the nonce and key are known.
* REPORT_ID, REPORT_ID_MA: random per launch; nothing to expect. Migration is refused through the guest policy.
* LAUNCH_TCB against CURRENT_TCB: honest machines differ after a firmware update without reboot of the guest; the floor
  below is applied to LAUNCH_TCB as well, which is what a downgrade at launch would fail.
* COMMITTED_TCB against REPORTED_TCB: the certificate is issued for REPORTED_TCB, and that is what the floor judges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from policy.claims import SnpClaims
from policy.document import DEMANDS, PERMISSIONS, MinimumTcb, PolicyDocument
from policy.reference import ReferenceValue
from policy.snp import GuestPolicy, PlatformInfo, SigningKey, TcbVersion
from policy.vocab import Platform

PASS, FAIL, IGNORED = "pass", "fail", "ignored"


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison. ``id`` is stable; ``outcome`` is ``pass``, ``fail`` or ``ignored`` (a written decision)."""

    id: str
    expected: str
    actual: str
    outcome: str
    clause: str


@dataclass(frozen=True, slots=True)
class Appraisal:
    """What a check may look at."""

    claims: SnpClaims
    platform: Platform
    document: PolicyDocument
    references: Sequence[ReferenceValue]
    now: datetime


def _check(name: str, expected: object, actual: object, passed: bool, clause: str) -> Check:
    return Check(name, str(expected), str(actual), PASS if passed else FAIL, clause)


def _ignored(name: str, actual: object, clause: str) -> Check:
    return Check(name, "not compared", str(actual), IGNORED, clause)


def root(of: Appraisal) -> Check:
    """The chain ends in a root the policy names."""
    wanted = " or ".join(of.document.roots)
    clause = "trust.roots: only chips under a named root are believed" + (
        "; this root is not AMD's, the hardware is emulated" if of.claims.emulated else ""
    )
    return _check("trust.root", wanted, of.claims.root, of.claims.root in of.document.roots, clause)


def revocation(of: Appraisal) -> Check:
    """The chain was compared with a current CRL."""
    clause = "snp.revocation: AMD revokes intermediates through its CRLs"
    state = of.claims.revocation
    if of.document.snp.revocation == "not-checked" and state != "good":
        return _ignored("snp.revocation", state, f"{clause}; the policy tolerates {state}")
    return _check("snp.revocation", "good", state, state == "good", clause)


def report_version(of: Appraisal) -> Check:
    """Old firmware writes old report versions, which lack the CPU's identity."""
    least, got = of.document.snp.report_version_min, of.claims.version
    return _check("snp.report-version", f">= {least}", got, got >= least, "snp.report_version_min")


def product(of: Appraisal) -> Check:
    """The product line, taken from the certificate chain."""
    wanted = [item.value for item in of.document.snp.products]
    got = of.claims.product
    return _check(
        "snp.product", " or ".join(wanted), got.value, got in of.document.snp.products,
        "snp.products: a product whose keys leaked can be refused as a whole",
    )  # fmt: skip


def signing_key(of: Appraisal) -> Check:
    """VCEK (this chip) or VLEK (this cloud)."""
    wanted = [item.name for item in of.document.snp.signing_keys]
    got = of.claims.signing_key
    return _check(
        "snp.signing-key", " or ".join(wanted), got.name, got in of.document.snp.signing_keys, "snp.signing_keys"
    )


def vmpl(of: Appraisal) -> Check:
    """The privilege level that asked for the report."""
    wanted, got = of.document.snp.vmpl, of.claims.vmpl
    return _check("snp.vmpl", " or ".join(map(str, wanted)), got, got in wanted, "snp.vmpl: who in the guest asked")


def permission(name: str) -> Callable[[Appraisal], Check]:
    """A guest-policy bit that weakens the guest when set."""

    def check(of: Appraisal) -> Check:
        allowed, got = of.document.snp.permissions[name], bool(getattr(of.claims.policy, name))
        clause = f"snp.{name}: {PERMISSIONS[name]}"
        label = f"snp.policy.{name.replace('_', '-')}"
        if allowed:
            return _ignored(label, _bit(got), f"{clause}; the policy allows it")
        return _check(label, _bit(False), _bit(got), not got, clause)

    return check


def demand(name: str) -> Callable[[Appraisal], Check]:
    """A guest-policy bit that strengthens the guest when set."""

    def check(of: Appraisal) -> Check:
        required, got = of.document.snp.demands[name], bool(getattr(of.claims.policy, name))
        clause = f"snp.{name}: {DEMANDS[name]}"
        label = f"snp.policy.{name.replace('_', '-')}"
        if not required:
            return _ignored(label, _bit(got), f"{clause}; the policy does not ask for it")
        return _check(label, _bit(True), _bit(got), got, clause)

    return check


def policy_reserved(of: Appraisal) -> Check:
    """Bits this release does not know could mean anything."""
    unknown = of.claims.policy & ~GuestPolicy.KNOWN
    return _check("snp.policy.reserved", "0x0", hex(unknown), not unknown, "guest policy bits 63:26 are undefined")


def abi(of: Appraisal) -> Check:
    """The firmware ABI the guest insists on."""
    wanted = of.document.snp.abi_min
    got = of.claims.policy.abi_major, of.claims.policy.abi_minor
    return _check(
        "snp.policy.abi", f">= {wanted[0]}.{wanted[1]}", f"{got[0]}.{got[1]}", got >= wanted,
        "snp.abi_min: the launch itself demanded at least this firmware ABI",
    )  # fmt: skip


def platform_smt(of: Appraisal) -> Check:
    """Where SMT is forbidden the platform must not run it either."""
    got = of.claims.platform_info.smt_en
    if of.document.snp.permissions["smt"]:
        return _ignored("snp.platform.smt", _bit(got), "snp.smt: the policy allows sibling threads")
    return _check("snp.platform.smt", _bit(False), _bit(got), not got, "snp.smt: sibling threads may run other code")


def alias_check(of: Appraisal) -> Check:
    """The firmware looked for aliased memory."""
    got = of.claims.platform_info.alias_check_complete
    clause = "snp.alias_check: BadRAM (CVE-2024-21944, AMD-SB-3015) aliases memory through forged DIMM data"
    if not of.document.snp.alias_check:
        return _ignored("snp.platform.alias-check", _bit(got), clause)
    return _check("snp.platform.alias-check", _bit(True), _bit(got), got, clause)


def ecc(of: Appraisal) -> Check:
    """Memory with error correction."""
    got = of.claims.platform_info.ecc_en
    clause = "snp.ecc: error correction makes bit flipping in guest memory harder"
    if not of.document.snp.ecc:
        return _ignored("snp.platform.ecc", _bit(got), clause)
    return _check("snp.platform.ecc", _bit(True), _bit(got), got, clause)


def platform_reserved(of: Appraisal) -> Check:
    """PLATFORM_INFO bits newer than this release."""
    unknown = of.claims.platform_info & ~PlatformInfo.KNOWN
    clause = "snp.unknown_platform_bits: newer firmware defines more bits"
    if of.document.snp.unknown_platform_bits:
        return _ignored("snp.platform.reserved", hex(unknown), clause)
    return _check("snp.platform.reserved", "0x0", hex(unknown), not unknown, clause)


def _floors(of: Appraisal) -> list[MinimumTcb]:
    model = of.claims.cpuid_mod_id
    return [
        entry for entry in of.document.snp.minimum_tcb
        if entry.product is of.claims.product and (not entry.models or model in entry.models)
    ]  # fmt: skip


def _tcb_check(name: str, of: Appraisal, got: TcbVersion, what: str) -> Check:
    floors = _floors(of)
    if not floors:
        text = f"an entry for {of.claims.product.value} model {of.claims.cpuid_mod_id}"
        return Check(name, text, "none in the policy", FAIL, "snp.minimum_tcb: no floor was written for this chip")
    low = sorted({part for entry in floors for part in got.parts_below(entry.floor)})
    wanted = "; ".join(f">= {entry.floor}" for entry in floors)
    reasons = "; ".join(entry.reason for entry in floors if entry.reason)
    suffix = f" ({', '.join(low)} too low)" if low else ""
    return _check(name, wanted, f"{got}{suffix}", not low, f"snp.minimum_tcb on {what}: {reasons}")


def tcb_reported(of: Appraisal) -> Check:
    """The TCB the endorsement key is derived from."""
    return _tcb_check("snp.tcb.reported", of, of.claims.reported_tcb, "REPORTED_TCB")


def tcb_launch(of: Appraisal) -> Check:
    """The TCB under which the guest was launched."""
    return _tcb_check("snp.tcb.launch", of, of.claims.launch_tcb, "LAUNCH_TCB")


def provisional_firmware(of: Appraisal) -> Check:
    """Firmware that is running but not committed can be rolled back by the host."""
    claims = of.claims
    current = f"{claims.current_major}.{claims.current_minor}.{claims.current_build} {claims.current_tcb}"
    committed = f"{claims.committed_major}.{claims.committed_minor}.{claims.committed_build} {claims.committed_tcb}"
    clause = "snp.provisional_firmware: until the host commits (SNP_COMMIT), it can go back to the older firmware"
    if of.document.snp.provisional_firmware:
        return _ignored("snp.firmware.committed", f"current {current}, committed {committed}", clause)
    return _check("snp.firmware.committed", current, committed, current == committed, clause)


def guest_svn(of: Appraisal) -> Check:
    """The security version in the ID block."""
    least, got = of.document.snp.guest_svn_min, of.claims.guest_svn
    return _check("snp.guest-svn", f">= {least}", got, got >= least, "snp.guest_svn_min: the ID block's version number")


def host_data(of: Appraisal) -> Check:
    """What the host bound to the launch."""
    wanted, got = of.document.snp.host_data, of.claims.host_data
    if wanted is None:
        return _ignored("snp.host-data", got.hex(), "snp.host_data: the host chooses it; not compared")
    return _check("snp.host-data", wanted.hex(), got.hex(), wanted == got, "snp.host_data")


def _digest_check(name: str, wanted: tuple[bytes, ...] | None, got: bytes, clause: str) -> Check:
    if wanted is None:
        return _ignored(name, got.hex(), f"{clause}; any is accepted")
    return _check(name, " or ".join(item.hex() for item in wanted) or "none listed", got.hex(), got in wanted, clause)


def id_key(of: Appraisal) -> Check:
    """Who signed the ID block."""
    return _digest_check(
        "snp.id-key-digest", of.document.snp.id_key_digests, of.claims.id_key_digest, "snp.id_key_digests"
    )


def author_key(of: Appraisal) -> Check:
    """Who vouches for the ID key; meaningful only where AUTHOR_KEY_EN is set."""
    wanted = of.document.snp.author_key_digests
    if wanted is not None and not of.claims.key_info.author_key_en:
        return Check("snp.author-key-digest", "an author key", "AUTHOR_KEY_EN is 0", FAIL, "snp.author_key_digests")
    return _digest_check("snp.author-key-digest", wanted, of.claims.author_key_digest, "snp.author_key_digests")


def chip(of: Appraisal) -> Check:
    """The chip is on the list and not on the other list."""
    rules, got = of.document.snp, of.claims.chip_id
    short = got[:8] if not any(got[8:]) else got
    if got in rules.denied_chip_ids or short in rules.denied_chip_ids:
        return Check("snp.chip-id", "a chip that is not denied", got.hex(), FAIL, "snp.denied_chip_ids")
    wanted = rules.chip_ids
    if wanted is None:
        return _ignored("snp.chip-id", got.hex(), "snp.chip_ids: any chip of the accepted products")
    listed = " or ".join(item.hex() for item in wanted) or "none listed"
    return _check("snp.chip-id", listed, got.hex(), got in wanted or short in wanted, "snp.chip_ids")


def csp(of: Appraisal) -> Check:
    """Whose cloud a VLEK belongs to."""
    wanted, got = of.document.snp.csp_ids, of.claims.csp_id
    if of.claims.signing_key is not SigningKey.VLEK:
        return _ignored("snp.csp-id", got, "snp.csp_ids: only a VLEK names a cloud; a VCEK signed")
    if wanted is None:
        return _ignored("snp.csp-id", got, "snp.csp_ids: any cloud")
    return _check("snp.csp-id", " or ".join(wanted) or "none listed", got, got in wanted, "snp.csp_ids")


def measurement(of: Appraisal) -> Check:
    """The launch digest is expected."""
    got, document = of.claims.measurement, of.document
    if document.measurement == "any":
        return _ignored("measurement", got.hex(), "measurement.accept = any: every guest of these chips is accepted")
    if document.measurement == "listed":
        wanted, clause = list(document.launch_digests), "measurement.launch_digests: listed in the policy"
    else:
        known = [item for item in of.references if item.platform is of.platform]
        wanted = [item.launch_digest for item in known if item.expires is None or of.now < item.expires]
        names = [item.name for item in known if item.launch_digest == got]
        clause = "measurement.accept = registered: reference values added by an operator"
        clause += f" (matches {', '.join(names)})" if names else ""
    expected = " or ".join(dict.fromkeys(item.hex() for item in wanted)) or "no reference value for this platform"
    return _check("measurement", expected, got.hex(), got in wanted, clause)


def _bit(value: bool) -> str:
    return "1" if value else "0"


SNP_CHECKS: tuple[Callable[[Appraisal], Check], ...] = (
    root, revocation, report_version, product, signing_key, vmpl, policy_reserved, abi,
    *(permission(name) for name in PERMISSIONS),
    *(demand(name) for name in DEMANDS),
    platform_smt, alias_check, ecc, platform_reserved, tcb_reported, tcb_launch, provisional_firmware,
    guest_svn, host_data, id_key, author_key, chip, csp, measurement,
)  # fmt: skip
"""Every rule, in the order in which decisions list them. All of them always run."""
