"""Rules about the guest: what it is (launch digest, ID block), how it was launched, and who asked for the report."""

from __future__ import annotations

from policy.check import FAIL, IGNORED, PASS, Check, SnpAppraisal, SnpRule, bit, compared, left_out, one_of
from policy.check_measured import registered, registered_counts
from policy.snp import GuestPolicy
from policy.snp_rules import DEMANDS, PERMISSIONS

_NO_AGENT = b"\xff" * 32
"""REPORT_ID_MA of a guest without migration agent: all ones, not zeros (seen in every real report)."""


def vmpl(of: SnpAppraisal) -> Check:
    """The privilege level that asked for the report."""
    wanted, got = of.rules.vmpl, of.claims.vmpl
    return compared("snp.vmpl", " or ".join(map(str, wanted)), got, got in wanted, "snp.vmpl: who in the guest asked")


def permission(name: str) -> SnpRule:
    """A guest-policy bit that weakens the guest when set."""

    def check(of: SnpAppraisal) -> Check:
        allowed, got = of.rules.permissions[name], bool(getattr(of.claims.policy, name))
        clause = f"snp.{name}: {PERMISSIONS[name]}"
        label = f"snp.policy.{name.replace('_', '-')}"
        if allowed:
            return left_out(label, bit(got), f"{clause}; the policy allows it")
        return compared(label, bit(False), bit(got), not got, clause)

    return check


def demand(name: str) -> SnpRule:
    """A guest-policy bit that strengthens the guest when set."""

    def check(of: SnpAppraisal) -> Check:
        required, got = of.rules.demands[name], bool(getattr(of.claims.policy, name))
        clause = f"snp.{name}: {DEMANDS[name]}"
        label = f"snp.policy.{name.replace('_', '-')}"
        if not required:
            return left_out(label, bit(got), f"{clause}; the policy does not ask for it")
        return compared(label, bit(True), bit(got), got, clause)

    return check


def policy_reserved(of: SnpAppraisal) -> Check:
    """Bits this release does not know could mean anything."""
    unknown = of.claims.policy & ~GuestPolicy.KNOWN
    return compared("snp.policy.reserved", "0x0", hex(unknown), not unknown, "guest policy bits 63:26 are undefined")


def abi(of: SnpAppraisal) -> Check:
    """The firmware ABI the guest insists on."""
    wanted = of.rules.abi_min
    got = of.claims.policy.abi_major, of.claims.policy.abi_minor
    return compared(
        "snp.policy.abi", f">= {wanted[0]}.{wanted[1]}", f"{got[0]}.{got[1]}", got >= wanted,
        "snp.abi_min: the launch itself demanded at least this firmware ABI",
    )  # fmt: skip


def migration_agent(of: SnpAppraisal) -> Check:
    """Who may migrate the guest, and that REPORT_ID_MA and the guest policy agree about it.

    Without a migration agent REPORT_ID_MA is all ones; an agent in a guest whose policy allows none is a contradiction
    that no policy accepts.
    """
    wanted, got = of.rules.migration_agents, of.claims.report_id_ma
    name, present = "snp.migration-agent", of.claims.report_id_ma != _NO_AGENT
    if present and not of.claims.policy.migrate_ma:
        return Check(name, "none, as MIGRATE_MA is 0", got.hex(), FAIL, "the guest policy allows no migration agent")
    if wanted is None:
        actual = got.hex() if present else "none"
        return left_out(name, actual, "snp.migration_agents: REPORT_ID of the agent; any is accepted")
    listed = " or ".join(["none", *(item.hex() for item in wanted)])
    passed = not present or got in wanted
    return compared(name, listed, got.hex() if present else "none", passed, "snp.migration_agents: REPORT_ID_MA")


def guest_svn(of: SnpAppraisal) -> Check:
    """The security version in the ID block."""
    least, got = of.rules.guest_svn_min, of.claims.guest_svn
    return compared(
        "snp.guest-svn", f">= {least}", got, got >= least, "snp.guest_svn_min: the ID block's version number"
    )


def family_id(of: SnpAppraisal) -> Check:
    """FAMILY_ID of the ID block; only the ID key makes it mean something."""
    return one_of("snp.family-id", of.rules.family_ids, of.claims.family_id, "snp.family_ids: from the ID block")


def image_id(of: SnpAppraisal) -> Check:
    """IMAGE_ID of the ID block; only the ID key makes it mean something."""
    return one_of("snp.image-id", of.rules.image_ids, of.claims.image_id, "snp.image_ids: from the ID block")


def report_data(of: SnpAppraisal) -> Check:
    """A fixed REPORT_DATA. Freshness is the verifier's step "binding"; this is for statements of one content."""
    wanted, got = of.rules.report_data, of.claims.report_data
    if wanted is None:
        clause = "snp.report_data: fresh with every challenge; compared by the verifier (step binding)"
        return left_out("snp.report-data", got.hex(), clause)
    return compared("snp.report-data", wanted.hex(), got.hex(), wanted == got, "snp.report_data")


def report_id(of: SnpAppraisal) -> Check:
    """One running instance: REPORT_ID is random at launch and constant until the guest ends."""
    return one_of("snp.report-id", of.rules.report_ids, of.claims.report_id, "snp.report_ids: running instances")


def host_data(of: SnpAppraisal) -> Check:
    """What the host bound to the launch."""
    wanted, got = of.rules.host_data, of.claims.host_data
    if wanted is None:
        return left_out("snp.host-data", got.hex(), "snp.host_data: the host chooses it; not compared")
    return compared("snp.host-data", wanted.hex(), got.hex(), wanted == got, "snp.host_data")


def id_key(of: SnpAppraisal) -> Check:
    """Who signed the ID block."""
    wanted, got = of.rules.id_key_digests, of.claims.id_key_digest
    return one_of("snp.id-key-digest", wanted, got, "snp.id_key_digests")


def author_key(of: SnpAppraisal) -> Check:
    """Who vouches for the ID key; meaningful only where AUTHOR_KEY_EN is set."""
    wanted = of.rules.author_key_digests
    if wanted is not None and not of.claims.key_info.author_key_en:
        return Check("snp.author-key-digest", "an author key", "AUTHOR_KEY_EN is 0", FAIL, "snp.author_key_digests")
    return one_of("snp.author-key-digest", wanted, of.claims.author_key_digest, "snp.author_key_digests")


MEASUREMENT = "measurement"


def measurement_outcome(of: SnpAppraisal) -> str:
    """Of :func:`measurement`, without its words."""
    got, document = of.claims.measurement, of.document
    if document.measurement == "any":
        return IGNORED
    passed = got in document.launch_digests if document.measurement == "listed" else registered_counts(of, got)
    return PASS if passed else FAIL


def measurement(of: SnpAppraisal) -> Check:
    """The launch digest is expected."""
    got, document = of.claims.measurement, of.document
    if document.measurement == "any":
        return left_out(MEASUREMENT, got.hex(), "measurement.accept = any: every guest of these chips is accepted")
    if document.measurement == "listed":
        wanted, clause = list(document.launch_digests), "measurement.launch_digests: listed in the policy"
    else:
        return registered(of, got)
    expected = " or ".join(dict.fromkeys(item.hex() for item in wanted)) or "no reference value for this platform"
    return compared(MEASUREMENT, expected, got.hex(), got in wanted, clause)


PERMISSION_RULES: tuple[SnpRule, ...] = tuple(permission(name) for name in PERMISSIONS)
DEMAND_RULES: tuple[SnpRule, ...] = tuple(demand(name) for name in DEMANDS)
