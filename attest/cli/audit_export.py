"""``attest audit export``: records as one JSON document, a CSV table or a printable page, however many they are.

Records are read a few at a time in one snapshot, and the file appears under its name only when it is whole.
"""

from __future__ import annotations

import csv
import io
import json
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from attest.audit.chain import parse_record
from attest.broker.abbreviated import completed
from attest.broker.opening import open_database
from attest.broker.views import record_json
from attest.cli.audit_page import answer_page, page
from attest.cli.audit_questions import filter_of
from attest.cli.audit_tally import Tally
from attest.cli.common import print_json, print_text, settings_of, whole_file
from attest.evidence.event_text import shown
from attest.store import records
from attest.store.records import Filter, StoredRecord

SCHEMA = "attest.audit.export/1"
COLUMNS = (
    "number", "time", "kind", "outcome", "subject", "actor", "chip", "measurement", "vm", "emulated", "decision",
    "token_id", "summary", "sha256",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
Chunks = Iterator[str]


def run_export(args: Namespace) -> int:
    """Write the file; 0. A record that was altered is exit 6, and there is no file then."""
    writer = WRITERS[args.format]
    with open_database(settings_of(args)).read() as tx:
        wanted = completed(tx, filter_of(args))
        count = records.count(tx, wanted)
        size = write_file(args.output, writer(tx, wanted))
    if args.json:
        print_json({"schema": "attest.audit.exported/1", "file": str(args.output), "records": count, "bytes": size})
    else:
        print_text(f"{args.output}: {count} records, {size} bytes")
    return 0


def as_json(tx: Connection, wanted: Filter) -> Chunks:
    """One object: its schema, and ``records``, each whole beside its SHA-256."""
    yield f'{{"schema": "{SCHEMA}", "records": ['
    between = "\n"
    for stored in records.stream(tx, wanted):
        record = parse_record(stored.record, f"audit record {stored.seq}")
        yield between + json.dumps({"sha256": stored.sha256.hex(), "record": record})
        between = ",\n"
    yield "\n]}\n"


def as_csv(tx: Connection, wanted: Filter) -> Chunks:
    """RFC 4180 with a header: a row for each record. No cell begins as a formula does, none holds a line break."""
    yield _line(COLUMNS)
    for stored in records.stream(tx, wanted):
        found = row_of(stored)
        yield _line([cell(found[name]) for name in COLUMNS])


def as_html(tx: Connection, wanted: Filter) -> Chunks:
    """A page for people and printers."""
    tally = Tally()
    for stored in records.stream(tx, wanted):
        tally.add(stored)
    return page(tally, (row_of(stored) for stored in records.stream(tx, wanted)), datetime.now(UTC))


WRITERS: dict[str, Callable[[Connection, Filter], Chunks]] = {"json": as_json, "csv": as_csv, "html": as_html}


def answer_chunks(kind: str, document: Mapping[str, Any], now: datetime) -> Chunks:
    """The answer to a question (`attest audit ask`) as one of the three kinds."""
    rows: Sequence[Mapping[str, Any]] = document["answer"]
    if kind == "json":
        yield json.dumps(document, indent=1) + "\n"
    elif kind == "csv":
        names = tuple(rows[0]) if rows else ()
        yield from (_line(line) for line in (names, *([cell(_flat(row[name])) for name in names] for row in rows)))
    else:
        asked = document["asked"]
        words = [f"{name} {asked[name]}" for name in ("value", "since", "until") if asked[name] is not None]
        yield from answer_page(f"Audit: {asked['question']}", rows, words or ["the whole log"], now)


def _flat(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def row_of(stored: StoredRecord) -> dict[str, Any]:
    """One record as the columns of a table; ``None`` where it says nothing. Raises AuditBroken."""
    record: Any = parse_record(stored.record, f"audit record {stored.seq}")
    actor, facts = record["actor"], stored.facts
    found = dict.fromkeys(COLUMNS) | record_json(stored, record)
    found |= {"chip": facts.chip, "measurement": facts.measurement, "vm": facts.vm}
    return found | {"actor": f"{actor['kind']}:{actor['name']}" if actor["name"] else actor["kind"]}


def cell(value: object) -> str:
    """A value as a spreadsheet shows it and never runs it: an apostrophe before what begins like a formula."""
    if value is None:
        return ""
    text = shown(str(value))
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _line(cells: Any) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerow(cells)
    return text.getvalue()


def write_file(path: Path, chunks: Chunks) -> int:
    """The bytes written. The file is there when it is whole. Raises ConfigInvalid."""
    with whole_file(path) as file:
        return sum(file.write(chunk.encode()) for chunk in chunks)
