"""Rules about a TD's event log: what it says in a way that its sender could not choose, compared with the policy.

What can be read from a log, and what not, is said in :mod:`policy.measured_facts`; the rules here only compare.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from policy.check import FAIL, Check, TdxAppraisal, TdxRule, compared, left_out
from policy.eventlog_rules import KERNEL_REGISTER, TEXT_REGISTER, VARIABLES, EventLogRules
from policy.measured import MeasuredEvent
from policy.measured_facts import EventFacts, event_facts, load_options_digest, secure_boot_place

Events = tuple[MeasuredEvent, ...]
Body = Callable[[EventLogRules, Events, EventFacts], Check]
_STATES = {True: ("on",), False: ("off", "absent")}
_last: tuple[Events, EventFacts] = ((), event_facts(()))


def _facts(events: Events) -> EventFacts:
    """Facts of ``events``, read once for all rules of a decision."""
    global _last
    known, facts = _last
    if known is not events:
        facts = event_facts(events)
        _last = events, facts
    return facts


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
            return body(rules, events, _facts(events))

        return check

    return decorate


@_rule("log")
def log(rules: EventLogRules, events: Events, facts: EventFacts) -> Check:
    """A log was sent; the verifier has replayed it to the quoted registers."""
    clause = "tdx.eventlog.log: replayed to the quoted registers by the verifier"
    return compared("tdx.eventlog.log", "an event log", f"{len(events)} events", True, clause)


@_rule("unexplained-events")
def unexplained(rules: EventLogRules, events: Events, facts: EventFacts) -> Check:
    """Every event is of a kind that belongs in its register, and proves it where its kind can."""
    shown = _events(facts.unexplained)
    clause = "tdx.eventlog.unexplained_events: what nobody can name may be anything (near/mpc#735)"
    if rules.unexplained:
        return left_out("tdx.eventlog.unexplained-events", shown, f"{clause}; tolerated")
    return compared("tdx.eventlog.unexplained-events", "none", shown, not facts.unexplained, clause)


@_rule("unlisted-events")
def unlisted(rules: EventLogRules, events: Events, facts: EventFacts) -> Check:
    """RTMR1 and RTMR2 hold nothing beyond what the policy lists, as far as its rules rely on them."""
    known = _known_digests(rules)
    boot = facts.applications if rules.about_kernel else ()
    loaded = facts.loaded if rules.about_cmdline or rules.initrd_digests is not None else ()
    found = [event for event in (*boot, *loaded) if event.digest not in known]
    clause = "tdx.eventlog.unlisted_events: a log can hide an event under an innocent name; its digest cannot hide"
    if rules.unlisted:
        return left_out("tdx.eventlog.unlisted-events", _events(found), f"{clause}; tolerated")
    return compared("tdx.eventlog.unlisted-events", "none", _events(found), not found, clause)


@_rule("kernel")
def kernel(rules: EventLogRules, events: Events, facts: EventFacts) -> Check:
    """The listed boot applications in order, then one listed kernel, and nothing else was started."""
    before, kernels = rules.boot_applications, rules.kernel_digests
    found = [event.digest for event in facts.applications if event.digest not in rules.known_digests]
    shown = ", ".join(digest.hex() for digest in found[:8]) + (" …" if len(found) > 8 else "")
    clause = f"tdx.eventlog.boot_applications, kernel_digests: Authenticode digests in RTMR{KERNEL_REGISTER}, in order"
    if before is None or kernels is None:
        return left_out("tdx.eventlog.kernel", shown or "none", f"{clause}; any is accepted")
    wanted = ", ".join([*(item.hex() for item in before), " or ".join(item.hex() for item in kernels) or "none listed"])
    passed = bool(found) and tuple(found[:-1]) == before and found[-1] in kernels
    return compared("tdx.eventlog.kernel", wanted, shown or "none", passed, clause)


@_rule("cmdline")
def cmdline(rules: EventLogRules, events: Events, facts: EventFacts) -> Check:
    """Every command line is listed, has the required words and none of the forbidden.

    The EFI stub's event does not hold the text it hashed, so load options are recognised by the digests of listed
    lines; GRUB's and systemd's lines are in the log. Which of GRUB's lines is the command line is the log's own word,
    so all of them have to be listed, and none may have a forbidden word.
    """
    name, clause = "tdx.eventlog.cmdline", "tdx.eventlog.cmdlines, cmdline_required, cmdline_forbidden"
    by_digest = {load_options_digest(text): text for text in rules.cmdlines or ()}
    options = [by_digest.get(event.digest) for event in facts.load_options]
    found = [text for text in (*options, *facts.command_lines) if text is not None]
    unread = sum(text is None for text in options)
    shown = "; ".join(text[:400] for text in found[:4]) or f"no command line in RTMR{TEXT_REGISTER}"
    if not rules.about_cmdline:
        return left_out(name, shown, f"{clause}; any is accepted")
    wrong = ["load options nobody listed, of which the log has no text"] if unread else []
    wrong += [problem for text in found for problem in _missing(rules, text)]
    wrong += [problem for text in (*found, *_lines(events)) for problem in _unwanted(rules, text)]
    wanted = " or ".join(rules.cmdlines) if rules.cmdlines is not None else "the required words, no forbidden one"
    wrong = list(dict.fromkeys(wrong))
    return compared(
        name, wanted, f"{shown} ({_short(wrong)})" if wrong else shown, bool(found) and not wrong, clause
    )  # fmt: skip


@_rule("initrd")
def initrd(rules: EventLogRules, events: Events, facts: EventFacts) -> Check:
    """Every initial RAM disk in RTMR2 is listed, and there is one."""
    found = [event.digest for event in facts.initrds]
    shown = ", ".join(digest.hex() for digest in found[:8]) or "none"
    clause = "tdx.eventlog.initrd_digests: SHA-384 of the initrd the kernel unpacks"
    if rules.initrd_digests is None:
        return left_out("tdx.eventlog.initrd", shown, f"{clause}; any is accepted")
    wanted = " or ".join(item.hex() for item in rules.initrd_digests) or "none listed"
    passed = bool(found) and all(digest in rules.initrd_digests for digest in found)
    return compared("tdx.eventlog.initrd", wanted, shown, passed, clause)


@_rule("secure-boot")
def secure_boot(rules: EventLogRules, events: Events, facts: EventFacts) -> Check:
    """Firmware measures SecureBoot once, and what it measured cannot be taken back."""
    actual = facts.secure_boot or "not measured, or twice"
    clause = "tdx.eventlog.secure_boot: with it on, firmware starts what a key in db signed, and nothing else"
    if rules.secure_boot is None:
        return left_out("tdx.eventlog.secure-boot", actual, clause)
    wanted = _STATES[rules.secure_boot]
    return compared("tdx.eventlog.secure-boot", " or ".join(wanted), actual, facts.secure_boot in wanted, clause)


@_rule("authorities")
def authorities(rules: EventLogRules, events: Events, facts: EventFacts) -> Check:
    """Images were admitted by listed certificates only, none by its bare hash."""
    found = [fact.sha256 for fact in facts.authorities]
    shown = _short([*found, *(f"image hash {item}" for item in facts.hash_authorities)]) or "none"
    clause = "tdx.eventlog.authorities: SHA-256 of certificates by which Secure Boot admitted images"
    if rules.authorities is None:
        return left_out("tdx.eventlog.authorities", shown, f"{clause}; any is accepted")
    listed = [item.hex() for item in rules.authorities]
    passed = not facts.hash_authorities and bool(found) and all(item in listed for item in found)
    return compared("tdx.eventlog.authorities", " or ".join(listed) or "none listed", shown, passed, clause)


def variable(key: str, place: int) -> TdxRule:
    """One Secure Boot variable, found by its place: firmware measures SecureBoot, PK, KEK, db, dbx in this order."""
    word = VARIABLES[key]

    @_rule(word.lower())
    def check(rules: EventLogRules, events: Events, facts: EventFacts) -> Check:
        name, clause = f"tdx.eventlog.{word.lower()}", f"tdx.eventlog.{key}: whose signatures Secure Boot accepts"
        start = secure_boot_place(events)
        digests = [event.digest for event in events if event.register == 0]
        found = [] if start is None else digests[start + place : start + place + 1]
        actual = found[0].hex() if found else "not measured"
        wanted = rules.variables[key]
        if wanted is None:
            return left_out(name, actual, f"{clause}; any is accepted")
        expected = " or ".join(item.hex() for item in wanted) or "none listed"
        return compared(name, expected, actual, bool(found) and found[0] in wanted, clause)

    return check


def _known_digests(rules: EventLogRules) -> set[bytes]:
    lists = (rules.known_digests, rules.boot_applications, rules.kernel_digests, rules.initrd_digests)
    found = {item for digests in lists for item in digests or ()}
    return found | {load_options_digest(text) for text in rules.cmdlines or ()}


def _lines(events: Events) -> list[str]:
    """Every line of text that RTMR2 vouches for, whatever the log calls it."""
    found = (event for event in events if event.register == TEXT_REGISTER and event.proven)
    return [event.detail for event in found if event.name.startswith("ipl:")]


def _missing(rules: EventLogRules, text: str) -> list[str]:
    words = text.split(" ")
    return [f"{word} missing" for word in rules.cmdline_required if word not in words]


def _unwanted(rules: EventLogRules, text: str) -> list[str]:
    """``init=`` forbids every word that begins so; any other forbidden word is meant whole."""
    found = [] if rules.cmdlines is None or text in rules.cmdlines else [f'"{text[:80]}" not listed']
    words = text.split(" ")
    for word in rules.cmdline_forbidden:
        if any(item.startswith(word) if word.endswith("=") else item == word for item in words):
            found.append(f"{word} forbidden")
    return found


def _events(events: tuple[MeasuredEvent, ...] | list[MeasuredEvent]) -> str:
    return _short([f"RTMR{event.register} {event.name} {event.digest.hex()[:16]}…" for event in events]) or "none"


def _short(found: list[str]) -> str:
    return ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")


EVENTLOG_RULES: tuple[TdxRule, ...] = (
    log, unexplained, unlisted, kernel, cmdline, initrd, secure_boot, authorities,
    *(variable(key, place) for place, key in enumerate(VARIABLES, start=1)),
)  # fmt: skip
