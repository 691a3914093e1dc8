"""Decoding the ``[tdx]`` table of a policy. No key has a default; every problem is collected with its path."""

from __future__ import annotations

from policy.eventlog_rules import EventLogRules
from policy.eventlog_table import eventlog_rules
from policy.intel_table import platform_rules, tcb_rules
from policy.table import Table
from policy.table_values import enums, hex_list, integers, masked, number, one_hex, word_is
from policy.tdx_rules import ATTRIBUTE_BITS, BODIES, EXTENDED_FIELDS, INIT_DATA, REGISTERED, RegisterRule, TdxRules

_WORDS = {"require": True, "forbid": False}


def tdx_rules(table: Table) -> TdxRules:
    """The rules of ``table``; what it lacks or has too much is recorded as a problem of ``table``."""
    bodies = enums(table, "bodies", {name: name for name in BODIES})
    first = _register(table, "rtmr0"), _register(table, "rtmr1"), _register(table, "rtmr2")
    rtmrs = (*first, _register(table, "rtmr3", INIT_DATA))
    rules = TdxRules(
        quote_versions=integers(table, "quote_versions", (4, 5)),
        bodies=bodies,
        rtmrs=rtmrs,
        unlogged_registers=_unlogged(table),
        rtmr_reason=_reason(table, rtmrs),
        mrconfigid=hex_list(table, "mrconfigid", (48,), zero=True),
        mrowner=hex_list(table, "mrowner", (48,), zero=True),
        mrownerconfig=hex_list(table, "mrownerconfig", (48,), zero=True),
        mrseam=hex_list(table, "mrseam", (48,)),
        mrsignerseam=hex_list(table, "mrsignerseam", (48,), zero=True),
        seamattributes=masked(table, "seamattributes", 64),
        mrservicetd=hex_list(table, "mrservicetd", (48,), zero=True),
        attributes=masked(table, "attributes", 64),
        bits={key: _WORDS.get(_word(table, key, bit.words)) for key, bit in ATTRIBUTE_BITS.items()},
        untrusted=table.choice("untrusted", ("allow", "forbid")) == "allow",
        undefined_attributes=table.choice("undefined_attributes", ("allow", "forbid")) == "allow",
        xfam_allowed=number(table, "xfam_allowed", 64),
        xfam_required=number(table, "xfam_required", 64),
        tee_tcb_svn_min=_floors(table, "tee_tcb_svn_min"),
        tee_tcb_svn2_min=_floors(table, "tee_tcb_svn2_min"),
        extended=_extended(table, bodies),
        report_data=one_hex(table, "report_data", 64),
        platform=platform_rules(table),
        tcb=tcb_rules(table, relaunch=True),
        eventlog=_eventlog(table),
    )
    if rules.bits["migratable"] is False and rules.mrservicetd not in (None, (bytes(48),)):
        table.problem("mrservicetd", 'lists migration TDs, but migratable = "forbid" refuses what they serve')
    table.finish()
    return rules


def _word(table: Table, key: str, words: tuple[str, ...]) -> str:
    """The bit's word; ``allow`` and ``ignore`` leave it out, and a mistake forbids it."""
    return table.choice(key, words) or "forbid"


def _register(table: Table, key: str, *more: str) -> RegisterRule:
    """``more``: words that this register has beside those of every register."""
    known = (REGISTERED, *more)
    want = ", ".join(f'"{word}"' for word in known) + ', "zero", "any" or a list of hex strings'
    value = table.value(key, object, want=want)
    if value is None:
        return ()
    if isinstance(value, str) and value in known:
        return value
    if isinstance(value, str) and value not in ("zero", "any"):
        table.problem(key, f'got "{value[:40]}", want {want}')
        return ()
    return hex_list(table, key, (48,), zero=True)


def _unlogged(table: Table) -> frozenset[int]:
    """Register numbers; none where every extend is logged."""
    value = table.value("unlogged_registers", list, want="a list of RTMR numbers 0..3, empty for none") or []
    if not all(type(item) is int and 0 <= item <= 3 for item in value):
        table.problem("unlogged_registers", f"got {value!r}, want RTMR numbers 0..3")
        return frozenset()
    return frozenset(value)


def _reason(table: Table, rtmrs: tuple[RegisterRule, ...]) -> str:
    if all(rule is not None for rule in rtmrs):
        if table.has("rtmr_reason"):
            table.problem("rtmr_reason", 'only where a register is "any"')
        return ""
    reason = table.value("rtmr_reason", str, want='why a register may hold anything, as one is "any"')
    if reason is not None and not reason.strip():
        table.problem("rtmr_reason", 'empty: write why a register may hold anything, as one is "any"')
    return reason or ""


def _floors(table: Table, key: str) -> tuple[bytes, ...] | None:
    """At most one floor per major version of the TDX module, which is byte 1."""
    found = hex_list(table, key, (16,))
    versions = [floor[1] for floor in found or () if floor]
    if len(set(versions)) != len(versions):
        table.problem(key, "two floors for one major version of the TDX module (byte 1)")
    return found


def _extended(table: Table, bodies: tuple[str, ...]) -> dict[str, tuple[bytes, ...] | None]:
    if "1.5-extended" not in bodies:
        if table.has("extended"):
            table.problem("extended", 'only where bodies lists "1.5-extended"')
        return {}
    fields = table.table("extended")
    if fields is None:
        return dict.fromkeys(EXTENDED_FIELDS, ())
    found = {key: hex_list(fields, key, (length,), zero=True) for key, length in EXTENDED_FIELDS.items()}
    fields.finish()
    return found


def _eventlog(table: Table) -> EventLogRules | None:
    """``eventlog = "ignore"``, or a table."""
    if word_is(table, "eventlog", "ignore"):
        return None
    child = table.table("eventlog")
    return None if child is None else eventlog_rules(child)
