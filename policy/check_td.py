"""Rules about the TD itself: the module under it, its attributes, what its host bound to it, who may move it."""

from __future__ import annotations

from policy.check import (
    FAIL,
    Check,
    TdxAppraisal,
    TdxRule,
    bit,
    compared,
    features_present,
    features_within,
    left_out,
    masked,
    one_of,
)
from policy.tdx import TdAttributes
from policy.tdx_rules import ATTRIBUTE_BITS, EXTENDED_FIELDS


def body(of: TdxAppraisal) -> Check:
    """The kind of TD report: newer ones say more."""
    wanted, got = of.rules.bodies, of.claims.body
    return compared("tdx.body", " or ".join(wanted), got, got in wanted, "tdx.bodies: 1.5 names service TDs")


def mrseam(of: TdxAppraisal) -> Check:
    """The TDX module, by its hash."""
    clause = "tdx.mrseam: the TDX module's hash; it changes with every update, whose level tdx.tcb judges"
    return one_of("tdx.mrseam", of.rules.mrseam, of.claims.mrseam, clause)


def mrsignerseam(of: TdxAppraisal) -> Check:
    """Who signed the TDX module: zero for Intel."""
    clause = "tdx.mrsignerseam: zero for a module Intel signed"
    return one_of("tdx.mrsignerseam", of.rules.mrsignerseam, of.claims.mrsignerseam, clause)


def seamattributes(of: TdxAppraisal) -> Check:
    """Attributes of the TDX module: zero in production."""
    clause = "tdx.seamattributes: zero for a production module; anything else may be debuggable"
    return masked("tdx.seamattributes", of.rules.seamattributes, of.claims.seamattributes, clause)


def attributes(of: TdxAppraisal) -> Check:
    """ATTRIBUTES as a whole, where the policy pins them; each bit has a rule of its own beside this one."""
    clause = "tdx.attributes: the whole field under a mask; single bits are compared below"
    return masked("tdx.attributes", of.rules.attributes, of.claims.td_attributes, clause)


def attribute(key: str) -> TdxRule:
    """One bit of ATTRIBUTES that the policy requires, forbids or leaves out."""

    def check(of: TdxAppraisal) -> Check:
        wanted, got = of.rules.bits[key], of.claims.td_attributes.bit(ATTRIBUTE_BITS[key].bit)
        name, clause = f"tdx.attributes.{key.replace('_', '-')}", f"tdx.{key}: {ATTRIBUTE_BITS[key].why}"
        if wanted is None:
            return left_out(name, bit(got), clause)
        return compared(name, bit(wanted), bit(got), got is wanted, clause)

    return check


def untrusted(of: TdxAppraisal) -> Check:
    """The rest of the TUD byte: any bit of it makes a TD that can be profiled, and none is honest by accident."""
    got = of.claims.td_attributes & TdAttributes.TUD & ~1
    clause = "tdx.untrusted: bits 1 to 7 of ATTRIBUTES (TUD): profiling; a check of the debug bit alone misses them"
    if of.rules.untrusted:
        return left_out("tdx.attributes.untrusted", hex(got), clause)
    return compared("tdx.attributes.untrusted", "0x0", hex(got), not got, clause)


def undefined_attributes(of: TdxAppraisal) -> Check:
    """Bits this release does not know could mean anything."""
    got = of.claims.td_attributes & ~(TdAttributes.KNOWN | TdAttributes.TUD)
    clause = "tdx.undefined_attributes: bits of ATTRIBUTES without a name here"
    if of.rules.undefined_attributes:
        return left_out("tdx.attributes.undefined", hex(got), clause)
    return compared("tdx.attributes.undefined", "0x0", hex(got), not got, clause)


def xfam_allowed(of: TdxAppraisal) -> Check:
    """No processor feature beyond the policy's."""
    clause = "tdx.xfam_allowed: processor state the TD may use; the host chooses it, the quote holds it"
    return features_within("tdx.xfam", of.rules.xfam_allowed, of.claims.xfam, clause)


def xfam_required(of: TdxAppraisal) -> Check:
    """Processor features the guest relies on."""
    clause = "tdx.xfam_required: a host could take a feature away that the guest's code relies on"
    return features_present("tdx.xfam-required", of.rules.xfam_required, of.claims.xfam, clause)


def tee_tcb_svn(of: TdxAppraisal) -> Check:
    """A floor of one's own for the module at launch; the floor for the module's major version counts."""
    clause = "tdx.tee_tcb_svn_min: the TDX module at launch; Intel's levels judge it, this is a floor of one's own"
    return _floor("tdx.tee-tcb-svn", of.rules.tee_tcb_svn_min, of.claims.tee_tcb_svn, clause)


def tee_tcb_svn2(of: TdxAppraisal) -> Check:
    """A floor of one's own for the module that runs now; body 1.0 does not name it and does not pass."""
    clause = "tdx.tee_tcb_svn2_min: the TDX module that runs now, which the host may have updated under the TD"
    return _floor("tdx.tee-tcb-svn2", of.rules.tee_tcb_svn2_min, of.claims.tee_tcb_svn2, clause)


def _floor(name: str, floors: tuple[bytes, ...] | None, got: bytes | None, clause: str) -> Check:
    """SVNs count anew in each major version of the module (byte 1), so a floor is for one version only."""
    actual = "not in this body" if got is None else got.hex()
    if floors is None:
        return left_out(name, actual, clause)
    wanted = " or ".join(f">= {floor.hex()}" for floor in floors) or "none listed"
    fitting = [floor for floor in floors if got is not None and floor[1] == got[1]]
    if got is None or not fitting:
        text = actual if got is None else f"{actual} (module version {got[1]} has no floor)"
        return Check(name, wanted, text, FAIL, clause)
    low = [str(index) for index in range(len(got)) if got[index] < fitting[0][index]]
    return compared(name, wanted, f"{actual} (byte {', '.join(low)} too low)" if low else actual, not low, clause)


def mrservicetd(of: TdxAppraisal) -> Check:
    """The service TDs bound to this one, among them a migration TD that can take it elsewhere.

    Body 1.0 does not name them; a migration TD can only be bound to a TD whose MIGRATABLE is 1.
    """
    wanted, got = of.rules.mrservicetd, of.claims.mrservicetd
    clause = "tdx.mrservicetd: a migration TD can move the TD to a machine nobody judged"
    if got is not None:
        return one_of("tdx.mrservicetd", wanted, got, clause)
    if wanted is None:
        return left_out("tdx.mrservicetd", "not in body 1.0", f"{clause}; any is accepted")
    moves = of.claims.td_attributes.migratable
    actual = f"not in body 1.0; MIGRATABLE is {bit(moves)}"
    return compared("tdx.mrservicetd", "named, or MIGRATABLE 0", actual, not moves, clause)


def extended(key: str) -> TdxRule:
    """One field that only body 1.5-extended has."""

    def check(of: TdxAppraisal) -> Check:
        name, clause = f"tdx.extended.{key.replace('_', '-')}", f"tdx.extended.{key}"
        found = dict(of.claims.extended)
        if of.claims.body != "1.5-extended" or key not in of.rules.extended:
            return left_out(name, found.get(key, "not in this body"), f"{clause}: see tdx.body for the body")
        got = found.get(key)
        if got is None:
            return Check(name, "a value", "missing", FAIL, clause)
        return one_of(name, of.rules.extended[key], bytes.fromhex(got), clause)

    return check


def unknown_extended(of: TdxAppraisal) -> Check:
    """Fields of a body that no rule speaks of."""
    extra = [name for name, _ in of.claims.extended if name not in EXTENDED_FIELDS]
    clause = "fields of a TD report this release has no rule for"
    return compared("tdx.extended.unknown", "none", ", ".join(extra) or "none", not extra, clause)


def host_value(name: str, why: str) -> TdxRule:
    """One of three values the host gives at launch, which the TD's code did not choose."""

    def check(of: TdxAppraisal) -> Check:
        wanted: tuple[bytes, ...] | None = getattr(of.rules, name)
        return one_of(f"tdx.{name}", wanted, getattr(of.claims, name), f"tdx.{name}: {why}")

    return check


ATTRIBUTE_RULES: tuple[TdxRule, ...] = tuple(attribute(key) for key in ATTRIBUTE_BITS)
EXTENDED_RULES: tuple[TdxRule, ...] = tuple(extended(key) for key in EXTENDED_FIELDS)
HOST_RULES: tuple[TdxRule, ...] = (
    host_value("mrconfigid", "chosen by the host at launch; the service compares it with the init-data a guest sends"),
    host_value("mrowner", "chosen by the host at launch; an owner nobody asked for says somebody else configured this"),
    host_value("mrownerconfig", "chosen by the host at launch, as MROWNER"),
)
