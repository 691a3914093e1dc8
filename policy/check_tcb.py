"""Rules about how current a platform is, from Intel's TCB info and QE identity; the same for TDs and enclaves.

The verifier says which TCB level a platform has. Whether that level is good enough is decided here, and nowhere else:
a library's "verification succeeded" is not an acceptable status.

**Advisories.** A level below the newest names the advisories (INTEL-SA-…, INTEL-DOC-…) that it is exposed to. The rule:

* UpToDate: nothing that Intel published is missing, so advisories are shown and not compared.
* Every other accepted status: each advisory must be allowed by id, with a reason, through a last day. For
  SWHardeningNeeded that says "the software in our image has the mitigation", for ConfigurationNeeded "our hosts are
  configured so", for OutOfDate "this hole does not matter here".
* ``unlisted_advisories = "grace"`` tolerates ids nobody listed while the status is accepted for a limited number of
  days: a new advisory comes without warning, and the days are the limit. ``"ignore"`` never compares them.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from policy.check import Check, IntelAppraisal, IntelRule, compared, left_out
from policy.claims import TcbClaims
from policy.intel_rules import TcbRules
from policy.tdx import TcbStatus

_DAY = timedelta(days=1)
_SOON = 30


def status(of: IntelAppraisal) -> Check:
    """Intel's converged status is accepted, without limit or for days that have not run out."""
    tcb, table = of.claims.tcb, of.rules.NAME
    accepted, actual = _standing(of.rules.tcb, tcb, tcb.status, of.now)
    clause = f"{table}.tcb.statuses: microcode, TDX module and quoting enclave against what Intel has published"
    return compared(f"{table}.tcb.status", _wanted(of.rules.tcb), actual, accepted, clause)


def running(of: IntelAppraisal) -> Check:
    """With the module that runs now, which may be another than at launch; Intel's library ignores a worse one."""
    tcb, table = of.claims.tcb, of.rules.NAME
    name = f"{table}.tcb.running"
    clause = f"{table}.tcb.statuses: the module that runs now must not be worse than what is accepted of the launch"
    if tcb.running is None:
        return left_out(name, "not stated", f"{clause}; only a TD report 1.5 tells")
    accepted, actual = _standing(of.rules.tcb, tcb, tcb.running, of.now)
    return compared(name, _wanted(of.rules.tcb), actual, accepted, clause)


def part(word: str) -> IntelRule:
    """One part of the converged status, shown beside it."""

    def check(of: IntelAppraisal) -> Check:
        got: TcbStatus | None = getattr(of.claims.tcb, word)
        clause = f"part of {of.rules.NAME}.tcb.status, which is compared"
        return left_out(f"{of.rules.NAME}.tcb.{word}", "none" if got is None else got.value, clause)

    return check


def advisories(of: IntelAppraisal) -> Check:
    """Each advisory the platform is exposed to is allowed by id; see the top of this module."""
    tcb, rules = of.claims.tcb, of.rules.tcb
    name, clause = f"{of.rules.NAME}.tcb.advisories", f"{of.rules.NAME}.tcb.advisory"
    shown = ", ".join(tcb.advisory_ids) or "none"
    if tcb.status is TcbStatus.UP_TO_DATE:
        return left_out(name, shown, f"{clause}: nothing is missing where the status is UpToDate")
    if rules.unlisted == "ignore":
        return left_out(name, shown, f"{clause}: unlisted_advisories = ignore")
    if rules.unlisted == "grace" and rules.statuses.get(tcb.status) is not None:
        return left_out(name, shown, f"{clause}: tolerated as long as {tcb.status.value} is")
    today = of.now.date()
    allowed = {entry.id: entry for entry in rules.advisories if today <= entry.until}
    wrong = [item for item in tcb.advisory_ids if item not in allowed]
    used = [
        f"{item} until {allowed[item].until} ({allowed[item].reason})" for item in tcb.advisory_ids if item in allowed
    ]
    actual = f"{', '.join(wrong)} not allowed" if wrong else shown
    return compared(name, "; ".join(used) or "none", actual, not wrong, f"{clause}: allowed by id, with a last day")


def evaluation_number(of: IntelAppraisal) -> Check:
    """Older TCB info calls old platforms UpToDate: a floor for the number of Intel's evaluation."""
    tcb, least, table = of.claims.tcb, of.rules.tcb.evaluation_number_min, of.rules.NAME
    clause = f"{table}.tcb.evaluation_number_min: old collateral, still valid, does not know newer vulnerabilities"
    got = tcb.evaluation_number
    return compared(f"{table}.tcb.evaluation-number", f">= {least}", got, got >= least, clause)


def equal_evaluation_numbers(of: IntelAppraisal) -> Check:
    """TCB info and QE identity are of one evaluation."""
    tcb, table = of.claims.tcb, of.rules.NAME
    actual = f"TCB info {tcb.tcb_info_number}, QE identity {tcb.qe_identity_number}"
    clause = f"{table}.tcb.equal_evaluation_numbers: an older one of the two hides what it does not know"
    name = f"{table}.tcb.equal-evaluation-numbers"
    if not of.rules.tcb.equal_evaluation_numbers:
        return left_out(name, actual, clause)
    return compared(name, "equal", actual, tcb.tcb_info_number == tcb.qe_identity_number, clause)


def tcb_date(of: IntelAppraisal) -> Check:
    """The date of the levels a platform has."""
    least, got, table = of.rules.tcb.tcb_date_min, of.claims.tcb.tcb_date.date(), of.rules.NAME
    clause = f"{table}.tcb.tcb_date_min: everything Intel published until this day is in place"
    if least is None:
        return left_out(f"{table}.tcb.tcb-date", got, f"{clause}; the status is the judge")
    return compared(f"{table}.tcb.tcb-date", f">= {least}", got, got >= least, clause)


def qe_isvsvn(of: IntelAppraisal) -> Check:
    """The quoting enclave's security version, from its own report, not from the quote's header."""
    least, got, table = of.rules.tcb.qe_isvsvn_min, of.claims.qe.isvsvn, of.rules.NAME
    clause = f"{table}.tcb.qe_isvsvn_min: Intel's QE identity judges it; this is a floor of one's own"
    return compared(f"{table}.tcb.qe-isvsvn", f">= {least}", got, got >= least, clause)


def collateral_expiry(of: IntelAppraisal) -> Check:
    """The collateral outlasts the decision by a margin."""
    margin, ends, table = of.rules.tcb.collateral_margin, of.claims.tcb.expires, of.rules.NAME
    clause = f"{table}.tcb.collateral_margin_hours: what was decided should not rest on data about to end"
    wanted = f"later than {_minute(of.now + margin)}"
    return compared(f"{table}.tcb.collateral-expiry", wanted, _minute(ends), ends > of.now + margin, clause)


def collateral_age(of: IntelAppraisal) -> Check:
    """A limit of one's own below the thirty days Intel gives."""
    limit, issued, table = of.rules.tcb.collateral_max_age, of.claims.tcb.issued, of.rules.NAME
    clause = f"{table}.tcb.collateral_max_age_days: whoever serves collateral can hold back a newer one until this ends"
    if limit is None:
        return left_out(
            f"{table}.tcb.collateral-age", f"issued {_minute(issued)}", f"{clause}; Intel's own date counts"
        )
    wanted = f"issued after {_minute(of.now - limit)}"
    return compared(
        f"{table}.tcb.collateral-age", wanted, f"issued {_minute(issued)}", of.now - issued <= limit, clause
    )


def revocation(of: IntelAppraisal) -> Check:
    """The chains were compared with current CRLs."""
    state, table = of.claims.revocation, of.rules.NAME
    clause = f"{table}.tcb.revocation: Intel revokes single platforms, and its CAs, through three CRLs"
    if of.rules.tcb.revocation == "not-checked" and state != "good":
        return left_out(f"{table}.revocation", state, f"{clause}; the policy tolerates {state}")
    return compared(f"{table}.revocation", "good", state, state == "good", clause)


def tcb_warnings(of: IntelAppraisal) -> tuple[str, ...]:
    """What is accepted today and will not be one day: grace that runs, allowed advisories whose last day is near."""
    tcb, rules, table = of.claims.tcb, of.rules.tcb, of.rules.NAME
    found = []
    accepted, text = _standing(rules, tcb, tcb.status, of.now)
    if accepted and rules.statuses.get(tcb.status) is not None:
        found.append(f"{table}.tcb.status: {text}")
    for entry in rules.advisories:
        left = (entry.until - of.now.date()).days
        if entry.id in tcb.advisory_ids and 0 <= left <= _SOON and tcb.status is not TcbStatus.UP_TO_DATE:
            found.append(f"{table}.tcb.advisories: {entry.id} is allowed through {entry.until}, {_days(left)} from now")
    return tuple(found)


def _standing(rules: TcbRules, tcb: TcbClaims, got: TcbStatus, now: datetime) -> tuple[bool, str]:
    """Whether ``got`` is accepted now, and the status in words, with what is left of its grace."""
    if got not in rules.statuses:
        return False, got.value
    days = rules.statuses[got]
    if days is None:
        return True, got.value
    if tcb.behind_since is None:
        return False, f"{got.value}, but nothing newer is listed to count days of grace from"
    end = tcb.behind_since + timedelta(days=days)
    since = f"{got.value}, behind since {tcb.behind_since.date()}"
    if now >= end:
        return False, f"{since}, grace ended {_minute(end)}"
    return True, f"{since}, {_days((end - now) // _DAY)} of grace left (until {_minute(end)})"


def _wanted(rules: TcbRules) -> str:
    return " or ".join(
        item.value if days is None else f"{item.value} for {_days(days)}" for item, days in rules.statuses.items()
    )


def _days(count: int) -> str:
    return "less than a day" if count == 0 else "1 day" if count == 1 else f"{count} days"


def _minute(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%MZ")


PARTS: tuple[IntelRule, ...] = tuple(part(word) for word in ("platform", "module", "qe"))
TCB_RULES: tuple[IntelRule, ...] = (
    status, *PARTS, running, advisories, evaluation_number, equal_evaluation_numbers, tcb_date, qe_isvsvn,
    collateral_expiry, collateral_age, revocation,
)  # fmt: skip
TIMED_RULES: tuple[IntelRule, ...] = (status, running, advisories, collateral_expiry, collateral_age)
"""Those whose result depends on the day, so that it must never be remembered."""
