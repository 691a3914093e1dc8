"""Decoding the ``[tdx.eventlog]`` table of a policy. No key has a default."""

from __future__ import annotations

from policy.eventlog_rules import VARIABLES, EventLogRules
from policy.table import Table
from policy.table_values import hex_list, text_list

_WORDS = {"require": True, "forbid": False, "ignore": None}


def eventlog_rules(table: Table) -> EventLogRules:
    """The rules of ``table``; what it lacks or has too much is recorded as a problem of ``table``."""
    rules = EventLogRules(
        required=table.choice("log", ("require", "ignore")) != "ignore",
        unexplained=table.choice("unexplained_events", ("forbid", "ignore")) == "ignore",
        unlisted=table.choice("unlisted_events", ("forbid", "ignore")) == "ignore",
        known_digests=hex_list(table, "known_digests", (48,), any_allowed=False) or (),
        boot_applications=hex_list(table, "boot_applications", (48,)),
        kernel_digests=hex_list(table, "kernel_digests", (48,)),
        cmdlines=text_list(table, "cmdlines"),
        cmdline_required=_words(table, "cmdline_required"),
        cmdline_forbidden=_words(table, "cmdline_forbidden"),
        initrd_digests=hex_list(table, "initrd_digests", (48,)),
        secure_boot=_WORDS.get(table.choice("secure_boot", tuple(_WORDS)) or "require"),
        authorities=hex_list(table, "authorities", (32,)),
        variables={key: hex_list(table, key, (48,)) for key in VARIABLES},
    )
    if (rules.kernel_digests is None) != (rules.boot_applications is None):
        table.problem(
            "boot_applications",
            'list both this and kernel_digests, or write "any" for both: the kernel is the application after these, '
            "and one that nobody listed could run before it and stay",
        )
    if rules.relies_on_log and not rules.required:
        table.problem("log", 'want "require": other rules of this table rely on the log')
    table.finish()
    return rules


def _words(table: Table, key: str) -> tuple[str, ...]:
    found = table.strings(key)
    for word in found:
        if not word or not word.isprintable() or " " in word:
            table.problem(key, f"got {word[:40]!r}, want one word of the command line, without blanks")
    return found
