"""Decoding the tables ``platform`` and ``tcb`` of ``[tdx]`` and ``[sgx]``. No key has a default."""

from __future__ import annotations

import re
from datetime import timedelta

from policy.intel_rules import FLAGS, SGX_TYPES, UNLISTED_WORDS, AllowedAdvisory, PlatformRules, TcbRules
from policy.table import Problems, Table
from policy.table_values import day, each, enums, hex_list, integer, one_hex, optional_integer, word_is
from policy.tdx import TcbStatus

RELAUNCH = (TcbStatus.TD_RELAUNCH_ADVISED, TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED)
_ADVISORY = re.compile(r"[A-Z][A-Z0-9]*(?:-[A-Z0-9]+)+")
"""Beside INTEL-SA-00000 Intel names documents in the same place, such as INTEL-DOC-10000 (end of servicing updates)."""
_MOST_DAYS = 3650


def platform_rules(parent: Table) -> PlatformRules:
    """The rules of ``[….platform]``."""
    table = parent.table("platform") or _nothing(parent, "platform")
    rules = PlatformRules(
        fmspcs=hex_list(table, "fmspcs", (6,)),
        denied_fmspcs=hex_list(table, "denied_fmspcs", (6,), any_allowed=False) or (),
        ppids=hex_list(table, "ppids", (16,)),
        denied_ppids=hex_list(table, "denied_ppids", (16,), any_allowed=False) or (),
        piids=hex_list(table, "piids", (16,)),
        denied_piids=hex_list(table, "denied_piids", (16,), any_allowed=False) or (),
        pceids=hex_list(table, "pceids", (2,)),
        cas=enums(table, "cas", {name: name for name in ("platform", "processor")}),
        sgx_types=enums(table, "sgx_types", {name: name for name in SGX_TYPES}),
        flags={key: table.choice(key, ("forbid", "ignore")) != "ignore" for key in FLAGS},
        components_min=one_hex(table, "components_min", 16, "any"),
        pcesvn_min=integer(table, "pcesvn_min", 0, 65535),
    )
    table.finish()
    return rules


def tcb_rules(parent: Table, *, relaunch: bool) -> TcbRules:
    """The rules of ``[….tcb]``; ``relaunch``: whether the two statuses exist that only a TD can have."""
    table = parent.table("tcb") or _nothing(parent, "tcb")
    too_old = optional_integer(table, "collateral_max_age_days", 1, _MOST_DAYS)
    rules = TcbRules(
        statuses=_statuses(table, relaunch),
        unlisted=table.choice("unlisted_advisories", UNLISTED_WORDS) or "refuse",
        advisories=each(table, "advisory", _advisory),
        evaluation_number_min=integer(table, "evaluation_number_min", 0, 2**31 - 1),
        equal_evaluation_numbers=table.choice("equal_evaluation_numbers", ("require", "ignore")) != "ignore",
        tcb_date_min=None if word_is(table, "tcb_date_min", "any") else day(table, "tcb_date_min"),
        qe_isvsvn_min=integer(table, "qe_isvsvn_min", 0, 65535),
        collateral_margin=timedelta(hours=integer(table, "collateral_margin_hours", 0, 24 * 365)),
        collateral_max_age=None if too_old is None else timedelta(days=too_old),
        revocation=table.choice("revocation", ("good", "not-checked")) or "good",
    )
    table.finish()
    return rules


def _statuses(parent: Table, relaunch: bool) -> dict[TcbStatus, int | None]:
    """Every status has a line: ``"accept"``, ``"refuse"``, or days of grace. Revoked has none: nothing accepts it."""
    table = parent.table("statuses")
    if table is None:
        return {}
    known = [item for item in TcbStatus if item is not TcbStatus.REVOKED and (relaunch or item not in RELAUNCH)]
    found: dict[TcbStatus, int | None] = {}
    for status in known:
        word = table.value(status.value, object, want='"accept", "refuse" or days of grace')
        if word == "accept":
            found[status] = None
        elif type(word) is int and status is not TcbStatus.UP_TO_DATE and 0 < word <= _MOST_DAYS:
            found[status] = word
        elif word is not None and word != "refuse":
            days = "" if status is TcbStatus.UP_TO_DATE else f" or days of grace 1..{_MOST_DAYS}"
            table.problem(status.value, f'got {str(word)[:20]!r}, want "accept", "refuse"{days}')
    table.finish()
    if not found:
        parent.problem("statuses", "none is accepted; a policy that refuses every status accepts nothing")
    return found


def _advisory(table: Table) -> AllowedAdvisory | None:
    name = table.value("id", str) or ""
    if name and not _ADVISORY.fullmatch(name):
        table.problem("id", f'got "{name[:40]}", want one such as INTEL-SA-00000')
    until = day(table, "until")
    reason = table.value("reason", str)
    if reason is not None and not reason.strip():
        table.problem("reason", "empty: write why this advisory does not matter here")
    table.finish()
    return None if until is None else AllowedAdvisory(name, until, reason or "")


def _nothing(parent: Table, key: str) -> Table:
    """A table without keys, for going on after its absence was recorded."""
    return Table({}, Problems(), f"{parent.path}.{key}")
