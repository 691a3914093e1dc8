"""Rules about the machine under a quote, from its PCK certificate; the same for TDs and enclaves.

Ids begin with the name of the table the rules stand in. PPID and platform instance come from the certificate, never
from the quote's header, whose user data any host can choose.
"""

from __future__ import annotations

from policy.check import FAIL, Check, IntelAppraisal, IntelRule, bit, compared, left_out, one_of
from policy.intel_rules import FLAGS, SGX_TYPES

_PHYSICAL = "who taps memory can extract a key (WireTap, Battering RAM, TEE.fail) and sign anything: name your machines"


def quote_version(of: IntelAppraisal) -> Check:
    """The format of the quote."""
    wanted, got = of.rules.quote_versions, of.claims.version
    name = f"{of.rules.NAME}.quote-version"
    return compared(name, " or ".join(map(str, wanted)), got, got in wanted, f"{of.rules.NAME}.quote_versions")


def report_data(of: IntelAppraisal) -> Check:
    """A fixed REPORTDATA. Freshness is the verifier's step "binding"; this is for statements of one content."""
    wanted, got, table = of.rules.report_data, of.claims.report_data, of.rules.NAME
    if wanted is None:
        clause = f"{table}.report_data: fresh with every challenge; compared by the verifier (step binding)"
        return left_out(f"{table}.report-data", got.hex(), clause)
    return compared(f"{table}.report-data", wanted.hex(), got.hex(), wanted == got, f"{table}.report_data")


def fmspc(of: IntelAppraisal) -> Check:
    """Family, model, stepping, platform type and SKU of the processor, as Intel numbers them."""
    rules, got = of.rules.platform, of.claims.pck.fmspc
    return _listed(of, "fmspc", "fmspcs", rules.fmspcs, rules.denied_fmspcs, got, "kinds of processor")


def ppid(of: IntelAppraisal) -> Check:
    """This processor package."""
    rules, got = of.rules.platform, of.claims.pck.ppid
    return _listed(of, "ppid", "ppids", rules.ppids, rules.denied_ppids, got, _PHYSICAL)


def piid(of: IntelAppraisal) -> Check:
    """This registered platform; only the platform CA names it, and what is not named passes no list."""
    rules, got = of.rules.platform, of.claims.pck.piid
    if got is None and (rules.piids is not None or rules.denied_piids):
        name, clause = f"{of.rules.NAME}.platform.piid", f"{of.rules.NAME}.platform.piids: {_PHYSICAL}"
        return Check(name, "a platform instance", "none under the processor CA", FAIL, clause)
    return _listed(of, "piid", "piids", rules.piids, rules.denied_piids, got or b"", _PHYSICAL)


def _listed(
    of: IntelAppraisal, word: str, key: str, wanted: tuple[bytes, ...] | None, denied: tuple[bytes, ...], got: bytes,
    why: str,
) -> Check:  # fmt: skip
    name, table = f"{of.rules.NAME}.platform.{word}", f"{of.rules.NAME}.platform"
    if got in denied:
        return Check(name, "one that is not denied", got.hex(), FAIL, f"{table}.denied_{key}: {why}")
    return one_of(name, wanted, got, f"{table}.{key}: {why}")


def pceid(of: IntelAppraisal) -> Check:
    """Which provisioning certification enclave the platform uses; 0000 wherever one was seen."""
    return one_of(
        f"{of.rules.NAME}.platform.pceid", of.rules.platform.pceids, of.claims.pck.pceid,
        f"{of.rules.NAME}.platform.pceids: which enclave of Intel's certified the quoting enclave's key",
    )  # fmt: skip


def ca(of: IntelAppraisal) -> Check:
    """Intel's CA for platforms (servers) or for processors (single-package clients and small servers)."""
    wanted, got, table = of.rules.platform.cas, of.claims.pck.ca, of.rules.NAME
    clause = f"{table}.platform.cas: only the platform CA names a platform instance and its configuration"
    return compared(f"{table}.platform.ca", " or ".join(wanted), got, got in wanted, clause)


def sgx_type(of: IntelAppraisal) -> Check:
    """How memory is protected: standard has replay protection, scalable types trade it for size."""
    number, wanted, table = of.claims.pck.sgx_type, of.rules.platform.sgx_types, of.rules.NAME
    got = SGX_TYPES[number] if number in range(len(SGX_TYPES)) else f"type {number}"
    clause = f"{table}.platform.sgx_types: scalable memory encryption has no replay protection (Battering RAM, WireTap)"
    return compared(f"{table}.platform.sgx-type", " or ".join(wanted), got, got in wanted, clause)


def flag(key: str) -> IntelRule:
    """One configuration flag of the PCK certificate; one that is not stated does not pass where it must be off."""

    def check(of: IntelAppraisal) -> Check:
        got: bool | None = getattr(of.claims.pck, key)
        name, clause = (
            f"{of.rules.NAME}.platform.{key.replace('_', '-')}",
            f"{of.rules.NAME}.platform.{key}: {FLAGS[key]}",
        )
        actual = "not stated under the processor CA" if got is None else bit(got)
        if not of.rules.platform.flags[key]:
            return left_out(name, actual, clause)
        return compared(name, bit(False), actual, got is False, clause)

    return check


def components(of: IntelAppraisal) -> Check:
    """A floor of one's own for the sixteen SVNs of the certificate, component by component."""
    least, got = of.rules.platform.components_min, bytes(of.claims.pck.components)
    name = f"{of.rules.NAME}.platform.components"
    clause = f"{of.rules.NAME}.platform.components_min: Intel's TCB levels judge them; this is a floor of one's own"
    if least is None:
        return left_out(name, got.hex(), clause)
    low = [str(index) for index, floor in enumerate(least) if got[index] < floor]
    suffix = f" (component {', '.join(low)} too low)" if low else ""
    return compared(name, f">= {least.hex()}", f"{got.hex()}{suffix}", not low, clause)


def pcesvn(of: IntelAppraisal) -> Check:
    """A floor of one's own for the provisioning certification enclave."""
    least, got, table = of.rules.platform.pcesvn_min, of.claims.pck.pcesvn, of.rules.NAME
    clause = f"{table}.platform.pcesvn_min: Intel's TCB levels judge it; this is a floor of one's own"
    return compared(f"{table}.platform.pcesvn", f">= {least}", got, got >= least, clause)


FLAG_RULES: tuple[IntelRule, ...] = tuple(flag(key) for key in FLAGS)
PLATFORM_RULES: tuple[IntelRule, ...] = (
    fmspc, ppid, piid, pceid, ca, sgx_type, *FLAG_RULES, components, pcesvn,
)  # fmt: skip
