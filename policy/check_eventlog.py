"""Rules about a TD's event log. What may be relied on, and what not, is said in :mod:`policy.eventlog_rules`.

Everything here goes by digests, which the quoted registers vouch for, and by their order. Text counts for command lines
only, and only where the event is ``proven``. An event's *name* is what the log says: it can only make a rule refuse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import wraps

from policy.check import FAIL, Check, TdxAppraisal, TdxRule, bit, compared, left_out
from policy.eventlog_rules import KERNEL_REGISTER, TEXT_REGISTER, VARIABLE_REGISTER, VARIABLES, EventLogRules
from policy.measured import MeasuredEvent

_GLOBAL_VARIABLE = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
ACTIONS = (
    "Calling EFI Application from Boot Option", "Exit Boot Services Invocation",
    "Exit Boot Services Returned with Success",
)  # fmt: skip
"""Texts that firmware measures, as they are, between the events that matter (TCG PC Client Profile, section 10.4.4)."""

_APPLICATION, _TEXTS = "application", ("load-options", "ipl:kernel_cmdline")
Events = tuple[MeasuredEvent, ...]
Body = Callable[[TdxAppraisal, EventLogRules, Events], Check]


def secure_boot_digest(value: bytes) -> bytes:
    """SHA-384 of the UEFI_VARIABLE_DATA of SecureBoot with ``value`` (empty where firmware has no keys)."""
    name = "SecureBoot"
    sizes = len(name).to_bytes(8, "little") + len(value).to_bytes(8, "little")
    return hashlib.sha384(_GLOBAL_VARIABLE + sizes + name.encode("utf-16-le") + value).digest()


SECURE_BOOT_ON, SECURE_BOOT_OFF = secure_boot_digest(b"\1"), (secure_boot_digest(b""), secure_boot_digest(b"\0"))
_CONSTANTS = {hashlib.sha384(text).digest() for text in (bytes(4), *(action.encode() for action in ACTIONS))}


def _rule(name: str) -> Callable[[Body], TdxRule]:
    """A rule that runs where the policy has a table and the TD sent a log; otherwise it says which is missing."""

    def decorate(body: Body) -> TdxRule:
        @wraps(body)
        def check(of: TdxAppraisal) -> Check:
            rules, events = of.rules.eventlog, of.claims.events
            label, clause = f"tdx.eventlog.{name}", f"tdx.eventlog.{name.replace('-', '_')}"
            if rules is None:
                return left_out(
                    label, "not looked at", "tdx.eventlog = ignore: the registers are judged, not their log"
                )
            if events is None and not rules.required:
                return left_out(label, "no event log was sent", f"{clause}: log = ignore")
            if events is None:
                return Check(label, "an event log", "none was sent", FAIL, clause)
            return body(of, rules, events)

        return check

    return decorate


@_rule("log")
def log(of: TdxAppraisal, rules: EventLogRules, events: Events) -> Check:
    """A log was sent; the verifier has replayed it to the quoted registers."""
    clause = "tdx.eventlog.log: replayed to the quoted registers by the verifier"
    return compared("tdx.eventlog.log", "an event log", f"{len(events)} events", True, clause)


@_rule("names")
def names(of: TdxAppraisal, rules: EventLogRules, events: Events) -> Check:
    """Nothing occurs that nobody expects; a trailing ``*`` of an entry stands for anything."""
    found = dict.fromkeys(f"RTMR{event.register} {event.name}" for event in events if not _named(rules, event.name))
    clause = "tdx.eventlog.names: names are the log's own words; an unknown one is a reason to look"
    if rules.names is None:
        return left_out("tdx.eventlog.names", f"{len(events)} events", f"{clause}; any is accepted")
    return compared(
        "tdx.eventlog.names", "only listed names", _short(list(found)) or "only listed names", not found, clause
    )


@_rule("unaccounted-events")
def unaccounted(of: TdxAppraisal, rules: EventLogRules, events: Events) -> Check:
    """Every event of a register that other rules rely on is one they have judged.

    Otherwise a log could give the digest of an evil kernel an innocent name and append, as any software in a TD may,
    what the rules want to see.
    """
    found = [event for event in events if event.register in rules.relied_on and not _accounted(rules, event)]
    shown = _short([f"RTMR{event.register} {event.name} {event.digest.hex()[:16]}…" for event in found])
    clause = "tdx.eventlog.unaccounted_events: known by digest, or proven (near/mpc#735: event names believed)"
    if rules.unaccounted:
        return left_out("tdx.eventlog.unaccounted-events", shown or "none", f"{clause}; tolerated")
    return compared("tdx.eventlog.unaccounted-events", "none", shown or "none", not found, clause)


@_rule("kernel")
def kernel(of: TdxAppraisal, rules: EventLogRules, events: Events) -> Check:
    """The listed boot applications in order, then one listed kernel, and nothing else was started."""
    found = [event.digest for event in events if event.register == KERNEL_REGISTER and _started(rules, event)]
    before, kernels = rules.boot_applications, rules.kernel_digests
    shown = ", ".join(digest.hex() for digest in found[:8]) + (" …" if len(found) > 8 else "")
    clause = "tdx.eventlog.boot_applications, kernel_digests: Authenticode digests in RTMR1, in order"
    if before is None or kernels is None:
        return left_out("tdx.eventlog.kernel", shown or "none", f"{clause}; any is accepted")
    wanted = ", ".join([*(item.hex() for item in before), " or ".join(item.hex() for item in kernels) or "none listed"])
    passed = tuple(found[:-1]) == before and found[-1:] != [] and found[-1] in kernels
    return compared("tdx.eventlog.kernel", wanted, shown or "none", passed, clause)


@_rule("cmdline")
def cmdline(of: TdxAppraisal, rules: EventLogRules, events: Events) -> Check:
    """Every command line the log holds is listed, has the required words and none of the forbidden."""
    name, clause = "tdx.eventlog.cmdline", "tdx.eventlog.cmdlines, cmdline_required, cmdline_forbidden"
    found = [event for event in events if event.register == TEXT_REGISTER and event.name in _TEXTS]
    shown = "; ".join(event.detail[:400] for event in found[:4]) or "no command line in RTMR2"
    if rules.cmdlines is None and not rules.cmdline_required and not rules.cmdline_forbidden:
        return left_out(name, shown, f"{clause}; any is accepted")
    if not found or not all(event.proven for event in found):
        actual = shown if not found else "text that does not give the digest beside it"
        return Check(name, "a command line proven by its digest", actual, FAIL, clause)
    wrong = [text for event in found for text in _cmdline_problems(rules, event.detail)]
    wanted = " or ".join(rules.cmdlines) if rules.cmdlines is not None else "the required words, no forbidden one"
    return compared(name, wanted, f"{shown} ({'; '.join(wrong)})" if wrong else shown, not wrong, clause)


@_rule("initrd")
def initrd(of: TdxAppraisal, rules: EventLogRules, events: Events) -> Check:
    """Every initial RAM disk in RTMR2 is listed, and there is one."""
    found = [event.digest for event in events if event.register == TEXT_REGISTER and event.name == "initrd"]
    shown = ", ".join(digest.hex() for digest in found[:8]) or "none"
    clause = "tdx.eventlog.initrd_digests: SHA-384 of the initrd the kernel unpacks"
    if rules.initrd_digests is None:
        return left_out("tdx.eventlog.initrd", shown, f"{clause}; any is accepted")
    wanted = " or ".join(item.hex() for item in rules.initrd_digests) or "none listed"
    passed = bool(found) and all(digest in rules.initrd_digests for digest in found)
    return compared("tdx.eventlog.initrd", wanted, shown, passed, clause)


@_rule("secure-boot")
def secure_boot(of: TdxAppraisal, rules: EventLogRules, events: Events) -> Check:
    """By digest: firmware measures SecureBoot once, and what it measured cannot be taken back."""
    digests = [event.digest for event in events if event.register == VARIABLE_REGISTER]
    on, off = SECURE_BOOT_ON in digests, any(digest in digests for digest in SECURE_BOOT_OFF)
    actual = "both 1 and 0" if on and off else bit(on) if on or off else "not measured"
    clause = "tdx.eventlog.secure_boot: with it on, firmware starts what a key in db signed, and nothing else"
    if rules.secure_boot is None:
        return left_out("tdx.eventlog.secure-boot", actual, clause)
    passed = (on, off) == (rules.secure_boot, not rules.secure_boot)
    return compared("tdx.eventlog.secure-boot", bit(rules.secure_boot), actual, passed, clause)


def variable(key: str, place: int) -> TdxRule:
    """One Secure Boot variable, found by its place: firmware measures SecureBoot, PK, KEK, db, dbx in this order."""
    word = VARIABLES[key]

    @_rule(word.lower())
    def check(of: TdxAppraisal, rules: EventLogRules, events: Events) -> Check:
        name, clause = f"tdx.eventlog.{word.lower()}", f"tdx.eventlog.{key}: whose signatures Secure Boot accepts"
        digests = [event.digest for event in events if event.register == VARIABLE_REGISTER]
        starts = [index for index, digest in enumerate(digests) if digest in (SECURE_BOOT_ON, *SECURE_BOOT_OFF)]
        found = digests[starts[0] + place : starts[0] + place + 1] if starts else []
        actual = found[0].hex() if found else "not measured"
        wanted = rules.variables[key]
        if wanted is None:
            return left_out(name, actual, f"{clause}; any is accepted")
        expected = " or ".join(item.hex() for item in wanted) or "none listed"
        return compared(name, expected, actual, bool(found) and found[0] in wanted, clause)

    return check


def _named(rules: EventLogRules, name: str) -> bool:
    return any(name.startswith(entry[:-1]) if entry.endswith("*") else name == entry for entry in rules.names or ("*",))


def _started(rules: EventLogRules, event: MeasuredEvent) -> bool:
    """What counts as an application: what the log calls one, and every digest that is listed as one."""
    return event.name == _APPLICATION or event.digest in {
        *(rules.boot_applications or ()),
        *(rules.kernel_digests or ()),
    }


def _accounted(rules: EventLogRules, event: MeasuredEvent) -> bool:
    """By digest: a constant of the specification, or listed. By proof: a partition table, a command line."""
    if event.digest in _CONSTANTS or event.digest in rules.listed_digests:
        return True
    if event.register == KERNEL_REGISTER:
        return event.name == _APPLICATION or (event.name == "gpt" and event.proven)
    return event.proven and (event.name in _TEXTS or event.name.startswith("ipl:"))


def _cmdline_problems(rules: EventLogRules, text: str) -> list[str]:
    words = text.split(" ")
    found = [] if rules.cmdlines is None or text in rules.cmdlines else ["not listed"]
    found += [f"{word} missing" for word in rules.cmdline_required if word not in words]
    return found + [f"{word} forbidden" for word in rules.cmdline_forbidden if _has(words, word)]


def _has(words: list[str], forbidden: str) -> bool:
    """``init=`` forbids every word that begins so; any other forbidden word is meant whole."""
    return any(word.startswith(forbidden) if forbidden.endswith("=") else word == forbidden for word in words)


def _short(found: list[str]) -> str:
    return ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")


EVENTLOG_RULES: tuple[TdxRule, ...] = (
    log, names, unaccounted, kernel, cmdline, initrd, secure_boot,
    *(variable(key, place) for place, key in enumerate(VARIABLES, start=1)),
)  # fmt: skip
