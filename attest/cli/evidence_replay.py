"""``attest evidence replay``: an event log's registers and events, beside a quote's registers and an expected log.

The quote's own signature is not verified here; ``attest evidence verify`` does that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from attest.cli.common import print_json
from attest.cli.event_words import event_lines, log_json, register_lines
from attest.cli.evidence_file import EXIT, FAILED, read_file, refuse
from attest.cli.evidence_text import printable
from attest.evidence.errors import EvidenceUnsupported
from attest.evidence.event_data import DecodedEvent, decode_log
from attest.evidence.eventlog import CCEL, EventLog
from attest.evidence.eventlog_json import parse_any_log
from attest.evidence.quote import Quote
from attest.evidence.recognise import QuoteEvidence, parse_evidence, recognise
from attest.evidence.td_report import TdReportBody
from attest.verifier.eventlog import measured_events, replay_rtmrs
from policy.errors import CvmError
from policy.measured_diff import EventDifference, event_differences

SCHEMA = "attest.evidence.replay/1"
REPLAYED, MATCHES, DIFFERS = "replayed", "matches", "differs"


class Row(NamedTuple):
    """One RTMR beside the quote's."""

    register: int
    computed: bytes
    signed: bytes
    unlogged: bool

    @property
    def outcome(self) -> str:
        """``match``, ``unlogged`` (differs by somebody's decision) or ``mismatch``."""
        return "match" if self.computed == self.signed else "unlogged" if self.unlogged else "mismatch"


def replay(args: argparse.Namespace) -> int:
    """Replay and compare; exit 6 when a register of the quote is not what the log gives."""
    try:
        log, quote = _log_and_quote(args.file, args.quote)
        events = decode_log(log)
        rows = () if quote is None else _rows(log, quote, frozenset(args.unlogged))
        differences = None if args.expected is None else _differences(args.expected, log)
        if args.json:
            print_json(_as_json(args, log, events, rows, differences))
        else:
            for line in _lines(args, log, events, rows, differences):
                print_line(line)
    except CvmError as exc:
        return refuse(exc, as_json=args.json)
    return EXIT[FAILED] if _outcome(rows) == DIFFERS else 0


def show_log(path: Path, data: bytes, *, as_json: bool, first_line: str, schema: str) -> int:
    """The part of ``attest evidence show`` for a log: nothing is compared, so nothing is known to be true."""
    log = parse_any_log(data)
    events = decode_log(log)
    if as_json:
        print_json(
            {"schema": schema, "verified": False, "file": str(path), "kind": "event-log", **log_json(log, events)}
        )
        return 0
    for line in (first_line, *_log_lines(path, log, events)):
        print_line(line)
    return 0


def print_line(line: str) -> None:
    """One line to standard output; a log's bytes never drive a terminal."""
    sys.stdout.write(printable(line) + "\n")


def _log_and_quote(path: Path, quote_path: Path | None) -> tuple[EventLog, Quote | None]:
    """The log, and the quote from its own file or from evidence that carries both."""
    data = read_file(path)
    wanted = None if quote_path is None else _quote(quote_path)
    if recognise(data) == "event-log":
        return parse_any_log(data, None if wanted is None else CCEL), wanted
    evidence = parse_evidence(data)
    if not isinstance(evidence, QuoteEvidence) or evidence.event_log is None:
        raise EvidenceUnsupported(f"{path}: {evidence.kind} without an event log, want a log or evidence that has one")
    return parse_any_log(evidence.event_log, CCEL), wanted or _td_quote(evidence.quote, path)


def _quote(path: Path) -> Quote:
    evidence = parse_evidence(read_file(path))
    if isinstance(evidence, QuoteEvidence):
        return _td_quote(evidence.quote, path)
    raise EvidenceUnsupported(f"{path}: {evidence.kind}, want a TDX quote")


def _td_quote(quote: Quote, path: Path) -> Quote:
    if not isinstance(quote.body, TdReportBody):
        raise EvidenceUnsupported(f"{path}: an SGX quote has no registers to compare")
    return quote


def _rows(log: EventLog, quote: Quote, unlogged: frozenset[int]) -> tuple[Row, ...]:
    body = quote.body
    signed = body.rtmrs if isinstance(body, TdReportBody) else ()
    computed = replay_rtmrs(log)
    return tuple(Row(number, computed[number], value, number in unlogged) for number, value in enumerate(signed))


def _outcome(rows: Sequence[Row]) -> str:
    if not rows:
        return REPLAYED
    return DIFFERS if any(row.outcome == "mismatch" for row in rows) else MATCHES


def _differences(path: Path, log: EventLog) -> tuple[EventDifference, ...]:
    """Against the events of a reference file, in the registers it predicts, or against another log."""
    data = read_file(path)
    if data.lstrip()[:1] != b"{":
        return event_differences(measured_events(parse_any_log(data, CCEL)), measured_events(log))
    from policy.reference import reference_from_bytes
    from policy.reference_tdx import TdRecipe

    reference = reference_from_bytes(data)
    if not isinstance(reference.recipe, TdRecipe):
        raise EvidenceUnsupported(f"{path}: a reference value without expected events, want one of a TD with a recipe")
    predicted = [number for number, value in enumerate(reference.rtmrs) if value is not None]
    return event_differences(reference.recipe.events, measured_events(log), predicted)


def _as_json(
    args: argparse.Namespace,
    log: EventLog,
    events: Sequence[DecodedEvent],
    rows: Sequence[Row],
    differences: Sequence[EventDifference] | None,
) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "file": str(args.file),
        "outcome": _outcome(rows),
        **log_json(log, events),
        "quote": None if not rows else [_row_json(row) for row in rows],
        "differences": None if differences is None else [_difference_json(item) for item in differences],
    }


def _row_json(row: Row) -> dict[str, object]:
    return {
        "register": f"RTMR{row.register}",
        "computed": row.computed.hex(),
        "signed": row.signed.hex(),
        "outcome": row.outcome,
    }


def _difference_json(item: EventDifference) -> dict[str, object]:
    return {
        "register": f"RTMR{item.register}",
        "place": item.place,
        "kind": item.kind,
        "name": item.name,
        "expected": None if item.expected is None else item.expected.digest.hex(),
        "logged": None if item.logged is None else item.logged.digest.hex(),
        "text": item.text(),
    }


def _lines(
    args: argparse.Namespace,
    log: EventLog,
    events: Sequence[DecodedEvent],
    rows: Sequence[Row],
    differences: Sequence[EventDifference] | None,
) -> Iterator[str]:
    yield from _log_lines(args.file, log, events)
    if rows:
        yield from ("", "quote (its signature is not verified here: attest evidence verify)")
        for row in rows:
            yield from _row_lines(row)
        yield {MATCHES: "the log replays to the quote's registers", DIFFERS: "the log does not replay"}[_outcome(rows)]
    if differences is not None:
        yield from ("", f"differences from {args.expected}: {len(differences) or 'none'}")
        yield from (f"  {item.text()}" for item in differences)


def _row_lines(row: Row) -> Iterator[str]:
    yield f"  RTMR{row.register}  {row.outcome}"
    if row.computed != row.signed:
        yield from (f"    {name:<9} {value}" for name, value in _halves(row))


def _halves(row: Row) -> Iterator[tuple[str, str]]:
    for name, value in (("computed", row.computed.hex()), ("signed", row.signed.hex())):
        yield from ((name, value[:64]), ("", value[64:]))


def _log_lines(path: Path, log: EventLog, events: Sequence[DecodedEvent]) -> Iterator[str]:
    what = "CCEL, registers of a TD" if log.kind == CCEL else "TPM event log"
    yield f"{path}: {what}, {len(events)} events"
    yield from ("", *register_lines(log), "")
    yield from event_lines(log, events)
