"""The tables ``[tdx]`` and ``[sgx]`` of a policy in words: what they accept and what they leave out."""

from __future__ import annotations

from policy.document import PolicyDocument
from policy.eventlog_rules import VARIABLES, EventLogRules
from policy.intel_rules import FLAGS, IntelRules, PlatformRules, TcbRules
from policy.sgx_rules import SgxRules
from policy.tdx import TcbStatus
from policy.tdx_rules import ATTRIBUTE_BITS, INIT_DATA, RegisterRule, TdxRules

Rule = tuple[str, str, bool]
"""Key, what it means, and whether anything is compared."""

_BIT = {True: "required", False: "forbidden", None: "not compared"}


def tdx_words(rules: TdxRules) -> tuple[Rule, ...]:
    """Every rule of ``[tdx]``, in the order of a document."""
    bits = tuple(
        (f"tdx.{key}", f"{_BIT[rules.bits[key]]}: {bit.why}", rules.bits[key] is not None)
        for key, bit in ATTRIBUTE_BITS.items()
    )
    lists = ("mrconfigid", "mrowner", "mrownerconfig", "mrseam", "mrsignerseam", "mrservicetd")
    floors = ("tee_tcb_svn_min", "tee_tcb_svn2_min")
    return (
        ("tdx.quote_versions", f"quote version {_numbers(rules.quote_versions)}", True),
        ("tdx.bodies", f"TD report {' or '.join(rules.bodies)}", True),
        *(_register(f"tdx.rtmr{index}", rule, rules.rtmr_reason) for index, rule in enumerate(rules.rtmrs)),
        ("tdx.unlogged_registers", _unlogged(rules), not rules.unlogged_registers),
        *(_values(f"tdx.{key}", getattr(rules, key)) for key in lists),
        _masked("tdx.seamattributes", rules.seamattributes),
        _masked("tdx.attributes", rules.attributes),
        *bits,
        ("tdx.untrusted", "bits 1 to 7 of ATTRIBUTES are zero", not rules.untrusted),
        ("tdx.undefined_attributes", "undefined bits of ATTRIBUTES are zero", not rules.undefined_attributes),
        _mask("tdx.xfam_allowed", rules.xfam_allowed, "no feature beyond"),
        _mask("tdx.xfam_required", rules.xfam_required, "all features of"),
        *(_values(f"tdx.{key}", getattr(rules, key), "at least") for key in floors),
        *(_values(f"tdx.extended.{key}", values) for key, values in rules.extended.items()),
        _report_data(rules),
        *_platform(rules),
        *_tcb(rules),
        *_eventlog(rules.eventlog),
    )


def sgx_words(rules: SgxRules) -> tuple[Rule, ...]:
    """Every rule of ``[sgx]``, in the order of a document."""
    products = ((item, f"{item.mrsigner.hex()} product {item.isvprodid}") for item in rules.signers)
    signers = tuple(
        ("sgx.signer", f"{product} version {item.isvsvn_min} or later{_why(item.reason)}", True)
        for item, product in products
    )
    return (
        ("sgx.quote_versions", f"quote version {_numbers(rules.quote_versions)}", True),
        ("sgx.mrenclaves", f"one of {len(rules.mrenclaves)} enclaves listed, or of a signer's", True),
        *signers,
        ("sgx.debug", "debug enclaves are refused: the host may read and change them", not rules.debug),
        ("sgx.provision_key", "enclaves with provisioning keys are refused", not rules.provision_key),
        _masked("sgx.attributes", rules.attributes),
        _mask("sgx.xfrm_allowed", rules.xfrm_allowed, "no feature beyond"),
        _mask("sgx.xfrm_required", rules.xfrm_required, "all features of"),
        _masked("sgx.miscselect", rules.miscselect),
        _values("sgx.configid", rules.configid),
        ("sgx.configsvn_min", f"configuration version {rules.configsvn_min} or later", rules.configsvn_min > 0),
        _values("sgx.isvextprodid", rules.isvextprodid),
        _values("sgx.isvfamilyid", rules.isvfamilyid),
        _report_data(rules),
        *_platform(rules),
        *_tcb(rules),
    )


def intel_warnings(document: PolicyDocument) -> tuple[str, ...]:
    """What an author of the two tables should have thought about."""
    found = []
    for rules in (document.tdx, document.sgx):
        if rules is not None:
            found += _shared_warnings(rules)
    if document.sgx is not None and not document.sgx.mrenclaves and not document.sgx.signers:
        found.append("sgx.mrenclaves: no enclave and no signer is listed, so no enclave is accepted")
    if document.sgx is not None and document.sgx.debug:
        found.append("sgx.debug: the host may read and change the enclave")
    return (*found, *(() if document.tdx is None else _tdx_warnings(document.tdx)))


def _shared_warnings(rules: IntelRules) -> list[str]:
    found, tcb, table = [], rules.tcb, rules.NAME
    late = [item.value for item, days in tcb.statuses.items() if days is None and item is not TcbStatus.UP_TO_DATE]
    if late:
        found.append(f"{table}.tcb.statuses: {', '.join(late)} accepted without limit; give days of grace instead")
    if tcb.unlisted == "ignore":
        found.append(f"{table}.tcb.unlisted_advisories: known vulnerabilities are not compared at all")
    if tcb.revocation != "good":
        found.append(f"{table}.tcb.revocation: a platform that was not compared with current CRLs is accepted")
    if tcb.evaluation_number_min == 0:
        found.append(f"{table}.tcb.evaluation_number_min: old collateral calls old platforms UpToDate")
    return found


def _tdx_warnings(rules: TdxRules) -> list[str]:
    found = []
    if rules.bits["debug"] is None:
        found.append("tdx.debug: the host may read and change everything in the TD")
    if rules.bits["migratable"] is None and rules.mrservicetd is None:
        found.append("tdx.mrservicetd: any migration TD may move the TD to a platform nobody judged")
    if rules.bits["sept_ve_disable"] is None:
        found.append("tdx.sept_ve_disable: only a paravisor may run without it; the host can inject #VE otherwise")
    log = rules.eventlog
    unknown = [index for index, rule in enumerate(rules.rtmrs[:3]) if rule is None]
    if unknown and (log is None or log.kernel_digests is None):
        registers = ", ".join(f"RTMR{index}" for index in unknown)
        found.append(
            f"tdx.rtmr0..2: {registers} may hold anything, so MRTD identifies the firmware and not what it boots"
        )
    about = log is not None and (log.about_kernel or log.about_cmdline or log.initrd_digests is not None)
    if log is not None and about and log.unlisted:
        found.append("tdx.eventlog.unlisted_events: a log can hide an event under an innocent name")
    if log is not None and log.about_cmdline and not log.unlisted and log.initrd_digests is None:
        found.append("tdx.eventlog.initrd_digests: any, yet unlisted_events = forbid refuses an initrd nobody listed")
    return found


def _platform(rules: IntelRules) -> tuple[Rule, ...]:
    at, table = rules.platform, f"{rules.NAME}.platform"
    return (
        *_machines(at, table),
        (f"{table}.cas", f"certified by the {' or '.join(at.cas)} CA", True),
        (f"{table}.sgx_types", " or ".join(at.sgx_types), True),
        *((f"{table}.{key}", f"{_flag(at.flags[key])}: {text}", at.flags[key]) for key, text in FLAGS.items()),
        (f"{table}.components_min", "any" if at.components_min is None else f"at least {at.components_min.hex()}",
         at.components_min is not None),
        (f"{table}.pcesvn_min", f"{at.pcesvn_min} or later", at.pcesvn_min > 0),
    )  # fmt: skip


def _machines(at: PlatformRules, table: str) -> tuple[Rule, ...]:
    denied = {"denied_fmspcs": at.denied_fmspcs, "denied_ppids": at.denied_ppids, "denied_piids": at.denied_piids}
    return (
        *(_values(f"{table}.{key}", getattr(at, key)) for key in ("fmspcs", "ppids", "piids", "pceids")),
        *((f"{table}.{key}", f"{len(values)} are denied", bool(values)) for key, values in denied.items()),
    )


def _tcb(rules: IntelRules) -> tuple[Rule, ...]:
    tcb, table = rules.tcb, f"{rules.NAME}.tcb"
    words = {
        "refuse": "other advisories are refused",
        "grace": "other advisories are tolerated while days of grace run",
        "ignore": "advisories are not compared",
    }
    age = tcb.collateral_max_age
    return (
        *_statuses(tcb, table),
        (f"{table}.unlisted_advisories", words[tcb.unlisted], tcb.unlisted != "ignore"),
        *((f"{table}.advisory", f"{item.id} through {item.until}{_why(item.reason)}", True) for item in tcb.advisories),
        (f"{table}.evaluation_number_min", f"evaluation {tcb.evaluation_number_min} or later", True),
        (f"{table}.equal_evaluation_numbers", "TCB info and QE identity are of one evaluation",
         tcb.equal_evaluation_numbers),
        (f"{table}.tcb_date_min", "any" if tcb.tcb_date_min is None else f"levels of {tcb.tcb_date_min} or later",
         tcb.tcb_date_min is not None),
        (f"{table}.qe_isvsvn_min", f"quoting enclave {tcb.qe_isvsvn_min} or later", tcb.qe_isvsvn_min > 0),
        (f"{table}.collateral_margin_hours", f"valid for {tcb.collateral_margin} more", bool(tcb.collateral_margin)),
        (f"{table}.collateral_max_age_days", "until it ends" if age is None else f"at most {age.days} days old",
         age is not None),
        (f"{table}.revocation", f"revocation state {tcb.revocation}", tcb.revocation == "good"),
    )  # fmt: skip


def _statuses(tcb: TcbRules, table: str) -> tuple[Rule, ...]:
    found = tuple(
        (
            f"{table}.statuses",
            status.value + ("" if days is None else f" for {days} days after something newer came"),
            True,
        )
        for status, days in tcb.statuses.items()
    )
    return (*found, (f"{table}.statuses", "every other status is refused, Revoked always", True))


def _eventlog(log: EventLogRules | None) -> tuple[Rule, ...]:
    if log is None:
        return (("tdx.eventlog", "not looked at: the registers are judged, not their log", False),)
    lists = ("boot_applications", "kernel_digests", "initrd_digests")
    return (
        ("tdx.eventlog.log", "required" if log.required else "not required", log.required),
        ("tdx.eventlog.unexplained_events", "none that has no business in its register", not log.unexplained),
        ("tdx.eventlog.unlisted_events", "RTMR1 and RTMR2 hold what the lists say, no more", not log.unlisted),
        ("tdx.eventlog.known_digests", f"{len(log.known_digests)} further digests are known", bool(log.known_digests)),
        *(_values(f"tdx.eventlog.{key}", getattr(log, key)) for key in lists),
        _texts("tdx.eventlog.cmdlines", log.cmdlines),
        ("tdx.eventlog.cmdline_required", " ".join(log.cmdline_required) or "no word", bool(log.cmdline_required)),
        ("tdx.eventlog.cmdline_forbidden", " ".join(log.cmdline_forbidden) or "no word", bool(log.cmdline_forbidden)),
        ("tdx.eventlog.secure_boot", _BIT[log.secure_boot], log.secure_boot is not None),
        _values("tdx.eventlog.authorities", log.authorities),
        *(_values(f"tdx.eventlog.{key}", log.variables[key]) for key in VARIABLES),
    )


def _register(key: str, rule: RegisterRule, reason: str) -> Rule:
    if rule is None:
        return key, f"any value{_why(reason)}", False
    if rule == INIT_DATA:
        return key, "zero, or extended by the init-data of MRCONFIGID and nothing else", True
    return (key, "as the reference value predicts", True) if isinstance(rule, str) else _values(key, rule)


def _unlogged(rules: TdxRules) -> str:
    found = ", ".join(f"RTMR{index}" for index in sorted(rules.unlogged_registers))
    return (
        f"{found} may differ from the event log" if found else "every register is as its event log says, if one is sent"
    )


def _report_data(rules: IntelRules) -> Rule:
    value = rules.report_data
    return f"{rules.NAME}.report_data", "any value" if value is None else value.hex(), value is not None


def _values(key: str, values: tuple[bytes, ...] | None, word: str = "one of") -> Rule:
    if values is None:
        return key, "any value", False
    if len(values) == 1 and not any(values[0]):
        return key, "zero", True
    return key, f"{word} {len(values)} listed", True


def _texts(key: str, texts: tuple[str, ...] | None) -> Rule:
    return key, "any" if texts is None else f"one of {len(texts)} listed", texts is not None


def _masked(key: str, wanted: tuple[int, int] | None) -> Rule:
    return key, "any" if wanted is None else f"{wanted[0]:#x} under {wanted[1]:#x}", wanted is not None


def _mask(key: str, wanted: int | None, words: str) -> Rule:
    return key, "any" if wanted is None else f"{words} {wanted:#x}", wanted is not None


def _flag(forbidden: bool) -> str:
    return "forbidden" if forbidden else "not compared"


def _numbers(values: tuple[int, ...]) -> str:
    return " or ".join(map(str, values))


def _why(reason: str) -> str:
    return f" — {reason}" if reason else ""
