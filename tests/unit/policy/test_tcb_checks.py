"""How current a platform is: statuses, grace, advisories, evaluation numbers, ages; the same rules for both tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from policy.decide import decide
from policy.document import PolicyInvalid
from policy.explain import decision_json, summary
from policy.tdx import TcbStatus
from tests.fakes.intel_claims import NOW, td
from tests.unit.policy.test_tdx_checks import REFERENCE, failed, policy

LATE = {"tcb__status": TcbStatus.OUT_OF_DATE, "tcb__behind_since": NOW - timedelta(days=20)}
SA = ("INTEL-SA-01397",)
GRACE = ('OutOfDate = "refuse"', "OutOfDate = 30")


@pytest.mark.parametrize("status", [item for item in TcbStatus if item is not TcbStatus.UP_TO_DATE])
def test_the_strict_policy_accepts_no_status_but_up_to_date(status: TcbStatus) -> None:
    assert failed(tcb__status=status) == ["tdx.tcb.status"]


def test_revoked_cannot_be_accepted_by_any_policy() -> None:
    with pytest.raises(PolicyInvalid, match=r"\$\.tdx\.tcb\.statuses\.Revoked: unknown key"):
        policy(('UpToDate = "accept"', 'UpToDate = "accept"\nRevoked = "accept"'))


def test_days_of_grace_are_counted_from_the_day_something_newer_came() -> None:
    document = policy(GRACE)
    assert failed(document, **LATE) == []
    assert failed(document, **(LATE | {"tcb__behind_since": NOW - timedelta(days=30)})) == ["tdx.tcb.status"]
    assert failed(document, **(LATE | {"tcb__behind_since": NOW - timedelta(days=30, seconds=-1)})) == []
    assert failed(document, **(LATE | {"tcb__behind_since": None})) == ["tdx.tcb.status"]


def test_the_countdown_stands_in_the_check_in_the_warnings_and_in_the_summary() -> None:
    decision = decide(td(**LATE), policy(GRACE), (REFERENCE,), now=NOW)
    text = "OutOfDate, behind since 2026-06-11, 10 days of grace left (until 2026-07-11T00:00Z)"
    assert next(check.actual for check in decision.checks if check.id == "tdx.tcb.status") == text
    assert decision.warnings == (f"tdx.tcb.status: {text}",)
    assert decision_json(decision)["warnings"] == list(decision.warnings)
    assert summary(decision).endswith(decision.warnings[0])
    assert "warnings" not in decision_json(decide(td(), policy(), (REFERENCE,), now=NOW))


def test_grace_is_not_remembered_from_one_day_to_another() -> None:
    document, claims = policy(GRACE), td(**LATE)
    verdicts = [decide(claims, document, (REFERENCE,), now=NOW + timedelta(days=days)).affirming for days in (0, 9, 10)]
    assert verdicts == [True, True, False]


def test_an_advisory_is_allowed_by_id_through_its_last_day() -> None:
    entry = '\n[[tdx.tcb.advisory]]\nid = "INTEL-SA-01397"\nuntil = "2026-07-01"\nreason = "no migration"\n\n[tdx.tcb.statuses]'
    document = policy(('OutOfDate = "refuse"', 'OutOfDate = "accept"'), ("\n[tdx.tcb.statuses]", entry))
    changes = LATE | {"tcb__advisory_ids": SA}
    assert failed(policy(('OutOfDate = "refuse"', 'OutOfDate = "accept"')), **changes) == ["tdx.tcb.advisories"]
    assert failed(document, **changes) == []
    assert failed(document, **(LATE | {"tcb__advisory_ids": (*SA, "INTEL-SA-09999")})) == ["tdx.tcb.advisories"]
    last = decide(td(**changes), document, (REFERENCE,), now=datetime(2026, 7, 1, 23, 59, tzinfo=UTC))
    after = decide(td(**changes), document, (REFERENCE,), now=datetime(2026, 7, 2, tzinfo=UTC))
    assert last.affirming
    assert "INTEL-SA-01397 is allowed through 2026-07-01, less than a day from now" in last.warnings[0]
    assert [check.id for check in after.failed] == ["tdx.tcb.advisories"]


def test_an_end_of_servicing_notice_is_allowed_by_its_id_like_an_advisory() -> None:
    entry = (
        '\n[[tdx.tcb.advisory]]\nid = "INTEL-DOC-10000"\nuntil = "2026-07-01"\nreason = "known"\n\n[tdx.tcb.statuses]'
    )
    document = policy(('OutOfDate = "refuse"', 'OutOfDate = "accept"'), ("\n[tdx.tcb.statuses]", entry))
    changes = LATE | {"tcb__advisory_ids": ("INTEL-DOC-10000",)}
    assert failed(policy(('OutOfDate = "refuse"', 'OutOfDate = "accept"')), **changes) == ["tdx.tcb.advisories"]
    assert failed(document, **changes) == []


def test_unlisted_advisories_are_tolerated_while_grace_runs_or_never_compared_where_the_policy_says_so() -> None:
    changes = LATE | {"tcb__advisory_ids": SA}
    tolerant = ('unlisted_advisories = "refuse"', 'unlisted_advisories = "grace"')
    assert failed(policy(GRACE), **changes) == ["tdx.tcb.advisories"]
    assert failed(policy(GRACE, tolerant), **changes) == []
    assert failed(policy(tolerant, ('OutOfDate = "refuse"', 'OutOfDate = "accept"')), **changes) == [
        "tdx.tcb.advisories"
    ]
    ignored = ('unlisted_advisories = "refuse"', 'unlisted_advisories = "ignore"')
    assert failed(policy(ignored, ('OutOfDate = "refuse"', 'OutOfDate = "accept"')), **changes) == []


def test_software_hardening_needs_every_advisory_allowed_and_up_to_date_none() -> None:
    document = policy(('SWHardeningNeeded = "refuse"', 'SWHardeningNeeded = "accept"'))
    status = TcbStatus.SW_HARDENING_NEEDED
    assert failed(document, tcb__status=status, tcb__advisory_ids=SA) == ["tdx.tcb.advisories"]
    assert failed(document, tcb__advisory_ids=SA) == []


def test_a_module_that_is_worse_now_than_at_launch_is_refused() -> None:
    assert failed(tcb__running=TcbStatus.UP_TO_DATE) == []
    assert failed(tcb__running=TcbStatus.OUT_OF_DATE) == ["tdx.tcb.running"]
    assert failed(tcb__running=TcbStatus.REVOKED) == ["tdx.tcb.running"]


OPTIONS: list[tuple[str, tuple[str, str] | None, dict[str, Any], dict[str, Any]]] = [
    ("tdx.tcb.evaluation-number", None, {"tcb__tcb_info_number": 18, "tcb__qe_identity_number": 18}, {}),
    ("tdx.tcb.equal-evaluation-numbers", None, {"tcb__qe_identity_number": 20},
     {"tcb__tcb_info_number": 20, "tcb__qe_identity_number": 20}),
    ("tdx.tcb.tcb-date", ('tcb_date_min = "any"', 'tcb_date_min = "2025-05-15"'), {},
     {"tcb__tcb_date": datetime(2025, 5, 15, tzinfo=UTC)}),
    ("tdx.tcb.qe-isvsvn", ("qe_isvsvn_min = 0", "qe_isvsvn_min = 7"), {}, {"qe__isvsvn": 7}),
    ("tdx.tcb.collateral-expiry", None, {"tcb__expires": NOW}, {"tcb__expires": NOW + timedelta(seconds=1)}),
    ("tdx.tcb.collateral-expiry", ("collateral_margin_hours = 0", "collateral_margin_hours = 500"), {},
     {"tcb__expires": NOW + timedelta(hours=501)}),
    ("tdx.tcb.collateral-age", ('collateral_max_age_days = "any"', "collateral_max_age_days = 7"), {},
     {"tcb__issued": NOW - timedelta(days=7)}),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "line", "bad", "good"), OPTIONS)
def test_a_rule_about_collateral_refuses_what_it_names_and_nothing_else(
    rule: str, line: tuple[str, str] | None, bad: dict[str, Any], good: dict[str, Any]
) -> None:
    document = policy(*([] if line is None else [line]))
    assert failed(document, **bad) == [rule]
    assert failed(document, **good) == []


def test_missing_revocation_is_tolerated_only_where_the_policy_says_so() -> None:
    document = policy(('revocation = "good"', 'revocation = "not-checked"'))
    assert failed(document, revocation="not-checked") == failed(document, revocation="stale") == []


BAD_TABLES = [
    ('UpToDate = "accept"', 'UpToDate = "refuse"', "none is accepted"),
    ('UpToDate = "accept"', "UpToDate = 30", '"accept", "refuse"'),
    ('OutOfDate = "refuse"', "OutOfDate = 0", "days of grace 1..3650"),
    ('OutOfDate = "refuse"', "OutOfDate = true", "days of grace"),
    ('tcb_date_min = "any"', 'tcb_date_min = "2026-02-30"', "want a date"),
    ("\n[tdx.tcb.statuses]", '\n[[tdx.tcb.advisory]]\nid = "x"\nuntil = "2026-01-01"\nreason = ""\n[tdx.tcb.statuses]', "INTEL-SA-0"),
    ("\n[tdx.tcb.statuses]", '\n[[tdx.tcb.advisory]]\nid = "INTEL-SA-00001 "\nuntil = "2026-01-01"\nreason = "x"\n[tdx.tcb.statuses]',
     "INTEL-SA-0"),
    ("\n[tdx.tcb.statuses]", '\n[[tdx.tcb.advisory]]\nid = "INTEL-SA-00001"\nuntil = "2026-01-01"\nreason = ""\n[tdx.tcb.statuses]',
     "write why"),
    ('mrservicetd = "zero"', f'mrservicetd = ["{"ab" * 48}"]', "migratable"),
    ('rtmr3 = "zero"', 'rtmr3 = "any"', "rtmr_reason: missing"),
    ('rtmr3 = "zero"', 'rtmr3 = "zero"\nrtmr_reason = "x"', 'only where a register is "any"'),
    ('rtmr3 = "zero"', 'rtmr3 = "something"', "want \"registered\""),
    ('rtmr2 = "registered"', 'rtmr2 = "init-data"', 'got "init-data", want "registered", "zero"'),
    ("unlogged_registers = []", "unlogged_registers = [4]", r"RTMR numbers 0\.\.3"),
    ('\nattributes = "any"', '\nattributes = "0x3/0x1"', "a value and the mask"),
    ('xfam_required = "0x3"', 'xfam_required = "3"', "want"),
    ('tee_tcb_svn_min = "any"', f'tee_tcb_svn_min = ["{"01" * 16}", "{"01" * 16}"]', "two floors"),
    ('bodies = ["1.0", "1.5"]', 'bodies = ["1.5-extended"]', r"extended: missing"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "problem"), BAD_TABLES)
def test_a_table_that_cannot_mean_what_it_says_is_refused(old: str, new: str, problem: str) -> None:
    with pytest.raises(PolicyInvalid, match=problem):
        policy((old, new))
