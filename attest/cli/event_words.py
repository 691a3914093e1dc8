"""A decoded event log as lines for a terminal of 100 columns, and as JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from attest.evidence.event_data import DecodedEvent
from attest.evidence.event_types import ALGORITHMS, HASHES, SHA384, algorithm_name, type_name
from attest.evidence.eventlog import CCEL, EventLog
from attest.verifier.eventlog import replay_pcrs, replay_rtmrs

_TEXT, _MOST_LINES = 65, 4
_HEX_LINE = 64


def registers_of(log: EventLog) -> list[tuple[str, str, bytes]]:
    """(bank, ``RTMR0`` or ``PCR0``, value) of every register; a bank that cannot be computed here is left out."""
    if log.kind == CCEL:
        values = replay_rtmrs(log) if SHA384 in log.algorithms else ()
        return [(algorithm_name(SHA384), f"RTMR{number}", value) for number, value in enumerate(values)]
    return [
        (algorithm_name(bank), f"PCR{number}", value)
        for bank in log.algorithms
        if bank in HASHES
        for number, value in sorted(replay_pcrs(log, bank).items())
    ]


def register_lines(log: EventLog) -> Iterator[str]:
    """One register per line, its value in one piece where it fits."""
    for bank, name, value in registers_of(log):
        digits = value.hex()
        label = f"{name:<6}" if log.kind == CCEL else f"{name:<6} {bank:<8}"
        yield f"  {label} {digits[:_HEX_LINE]}"
        if digits[_HEX_LINE:]:
            yield f"  {'':<{len(label)}} {digits[_HEX_LINE:]}"
    missing = [algorithm_name(number) for number in log.algorithms if number not in HASHES]
    if missing:
        yield f"  {', '.join(missing)}: cannot be replayed here"


def event_lines(log: EventLog, events: Sequence[DecodedEvent]) -> Iterator[str]:
    """A table; ``=`` marks what the event's own digest proves, ``-`` what extends no register."""
    yield "    #  register    digest        event"
    for item in events:
        mark = "=" if item.proven else " " if item.extended else "-"
        head = f"{item.event.number:>5}  {_register(log, item):<7} {mark}   {item.digest.hex()[:12]:<12}  "
        for row, text in enumerate(_wrapped(f"{item.name}  {item.detail}")):
            yield (head if row == 0 else " " * len(head)) + text
    yield "  = the digest proves what is shown   - extends no register   otherwise: only the digest is measured"


def event_json(log: EventLog, item: DecodedEvent) -> dict[str, object]:
    """Every field of one event; data in hexadecimal."""
    return {
        "number": item.event.number,
        "offset": item.event.offset,
        "register": _register(log, item),
        "type": item.event.type,
        "type_name": type_name(item.event.type),
        "name": item.name,
        "detail": item.detail,
        "proven": item.proven,
        "extended": item.extended,
        "digests": {ALGORITHMS[number][0]: digest.hex() for number, digest in item.event.digests},
        "data": item.event.data.hex(),
    }


def log_json(log: EventLog, events: Sequence[DecodedEvent]) -> dict[str, object]:
    """Kind, banks, registers and events."""
    return {
        "log": log.kind,
        "bytes": len(log.raw),
        "algorithms": [algorithm_name(number) for number in log.algorithms],
        "registers": [
            {"register": name, "bank": bank, "value": value.hex()} for bank, name, value in registers_of(log)
        ],
        "events": [event_json(log, item) for item in events],
    }


def _register(log: EventLog, item: DecodedEvent) -> str:
    if log.kind != CCEL:
        return f"PCR{item.register}" if item.register < 0xFFFFFFFF else "none"
    return f"RTMR{item.register}" if 0 <= item.register < 4 else "MRTD"


def _wrapped(text: str) -> list[str]:
    """The text in lines; of a long one the beginning (--json has all of it)."""
    lines = wrap(text, _TEXT, subsequent_indent="  ", break_on_hyphens=False)
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], f"  … {len(text)} characters in all"]
