"""``attest audit ask`` and ``list``: what auditors want to know, as tables or JSON."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attest.broker.abbreviated import completed
from attest.broker.asking import QUESTIONS, Asked, Judge, answer_document, ask, parse_time
from attest.broker.collateral import ServiceCollateral
from attest.broker.errors import RequestMalformed
from attest.broker.opening import open_database, signers_of
from attest.broker.rules import Rules, RulesInForce
from attest.broker.views import record_json
from attest.cli.common import print_json, print_table, print_text, read_file, settings_of
from attest.cli.remote import Request, answer
from attest.settings import Settings
from attest.store import records
from attest.store.engine import Database
from attest.store.records import Filter
from policy.document import parse_policy
from policy.errors import ConfigInvalid

_SHORT = 24


def add_question(parser: ArgumentParser) -> None:
    """The question, what it is about, between which moments."""
    words = "; ".join(f"{name}: {known.help}" for name, known in QUESTIONS.items())
    parser.add_argument("question", choices=tuple(QUESTIONS), help=words)
    parser.add_argument(
        "value", nargs="?", help="the RESOURCE, MEASUREMENT, CHIP or VM it is about; the first 8 digits or more of one"
    )
    parser.add_argument("--since", metavar="TIME", help="not older than this RFC 3339 date or time")
    parser.add_argument("--until", metavar="TIME", help="older than this RFC 3339 date or time")
    parser.add_argument("--format", choices=("json", "csv", "html"), help="write the answer as a file, with -o")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write it")
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="today: judge by this policy, not by the one in force"
    )


def run_ask(args: Namespace) -> int:
    """Answer; 0 whatever the answer is."""
    if (args.format is None) != (args.output is None):
        raise ConfigInvalid("--format", ("want --format and -o FILE together",))
    now = datetime.now(UTC)
    document = _answered(args, now) if args.service is None else _answered_there(args)
    if args.output is not None:
        return _write_answer(args, document, now)
    if args.json:
        print_json(document)
        return 0
    rows: Any = document["answer"]
    if rows:
        print_table(_table(rows))
    print_text(f"{len(rows)} found")
    return 0


def _answered(args: Namespace, now: datetime) -> dict[str, Any]:
    settings = settings_of(args)
    database = open_database(settings)
    asked = Asked(args.question, now, args.value, parse_time(args.since, "--since"), parse_time(args.until, "--until"))
    with database.read() as tx:
        return answer_document(asked, ask(tx, asked, _judge(settings, database, args.policy)))


def _answered_there(args: Namespace) -> dict[str, Any]:
    if args.policy is not None:
        raise ConfigInvalid(
            "--policy", ("a service judges by the policy in force; attest policy replay tries another",)
        )
    return answer(args, Request("GET", f"/cvm/v0/audit-questions/{args.question}", _given(args, "value")))


def _given(args: Namespace, *names: str) -> dict[str, str]:
    """The options that were given, with what limits the time, as they are sent."""
    values = {name: getattr(args, name) for name in (*names, "since", "until")}
    return {name: str(value) for name, value in values.items() if value is not None}


def _write_answer(args: Namespace, document: Mapping[str, Any], now: datetime) -> int:
    from attest.cli.audit_export import answer_chunks, write_file

    size = write_file(args.output, answer_chunks(args.format, document, now))
    found = len(document["answer"])
    if args.json:
        print_json({"schema": "attest.audit.exported/1", "file": str(args.output), "records": found, "bytes": size})
    else:
        print_text(f"{args.output}: {found} found, {size} bytes")
    return 0


def run_list(args: Namespace) -> int:
    """Records that fit, oldest first; of a service at most the newest 1000, 100 unless said."""
    if args.service is None:
        with open_database(settings_of(args)).read() as tx:
            found = [record_json(entry) for entry in records.find(tx, completed(tx, filter_of(args)), limit=args.limit)]
    else:
        query = _given(args, "kind", "vm", "chip", "measurement", "resource", "limit")
        found = answer(args, Request("GET", "/cvm/v0/audit", query))["records"]
    if args.json:
        print_json({"schema": "attest.audit.list/1", "records": found})
        return 0
    rows = [("N", "TIME", "KIND", "OUTCOME", "SUBJECT")]
    for entry in found:
        outcome = entry["outcome"] + (" (emulated)" if entry.get("emulated") else "")
        rows.append((entry["number"], entry["time"], entry["kind"], outcome, entry["subject"]))
    print_table(rows)
    return 0


def filter_of(args: Namespace) -> Filter:
    """The records that the options of `list` and `export` name. Raises ConfigInvalid."""
    return Filter(
        since=_time(args.since, "--since"),
        until=_time(args.until, "--until"),
        kinds=() if args.kind is None else (args.kind,),
        subject=args.resource,
        vm=args.vm,
        chip=args.chip,
        measurement=args.measurement,
    )


def _time(text: str | None, option: str) -> datetime | None:
    try:
        return parse_time(text, option)
    except RequestMalformed as exc:
        raise ConfigInvalid(option, (exc.message.removeprefix(f"{option}: "),)) from None


def _judge(settings: Settings, database: Database, policy: Path | None) -> Judge:
    in_force = RulesInForce(database, signers_of(settings))

    def rules() -> Rules:
        found = in_force.current()
        return found if policy is None else replace(found, document=parse_policy(read_file(policy, "policy")))

    return Judge(rules, ServiceCollateral.of(settings.collateral).offline())


def _table(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """One column for each member; long ones cut, for ``--json`` has them whole."""
    names = tuple(rows[0])
    return [tuple(name.upper() for name in names), *(tuple(_cell(row[name]) for name in names) for row in rows)]


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        text = " ".join(f"{name}={member}" for name, member in value.items())
    else:
        text = ",".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)
    return text if len(text) <= _SHORT or " " in text else f"{text[: _SHORT - 1]}…"
