"""``attest policy replay``: what the evidence on record would have got under a policy."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from attest.audit.canonical import rfc3339
from attest.broker.opening import open_database
from attest.broker.policy_replay import replay as replay_decisions
from attest.broker.policy_replay import replay_json
from attest.broker.rules import parse_stored
from attest.cli.common import print_json, print_table, print_text, settings_of
from attest.cli.policy_look import policy_text
from attest.cli.remote import Request, answer
from attest.store import rules
from policy.document import parse_policy
from policy.errors import ConfigInvalid

_DAYS = timedelta(days=30)
CHANGES, NONE = 7, 0


def replay(args: Namespace) -> int:
    """7 where an outcome would have been another one, else 0."""
    now = datetime.now(UTC)
    since, until = args.since or now - _DAYS, args.until or now
    if since >= until:
        raise ConfigInvalid("--since", (f"{rfc3339(since)} is not before {rfc3339(until)}",))
    text = policy_text(args, args.file)
    found = (_here if args.service is None else _there)(args, text, since, until)
    if args.json:
        print_json(found)
    else:
        _print(found)
    return CHANGES if found["changed"] else NONE


def _here(args: Namespace, text: bytes, since: datetime, until: datetime) -> Mapping[str, Any]:
    document = parse_policy(text)
    with open_database(settings_of(args)).read() as tx:
        stored = rules.active_references(tx) if args.present_references else None
        references = None if stored is None else tuple(map(parse_stored, stored))
        found = replay_decisions(tx, document, since, until, references=references)
    return replay_json(found, document.name, since, until)


def _there(args: Namespace, text: bytes, since: datetime, until: datetime) -> Mapping[str, Any]:
    query = {"since": rfc3339(since), "until": rfc3339(until)}
    if args.present_references:
        query["present-references"] = "1"
    return answer(args, Request("POST", "/cvm/v0/policy/replay", query, text))


def _print(found: Mapping[str, Any]) -> None:
    print_text(f"policy {found['policy']}, decisions from {found['since']} to {found['until']}: {found['decisions']}")
    for move in found["outcomes"]:
        print_text(f"  {move['before']} -> {move['after']}: {move['count']}")
    if found["unreadable"]:
        print_text(f"  {found['unreadable']} more were about evidence that did not parse")
    print_table(
        [
            (entry["record"], entry["time"], entry["launch_digest"][:16], entry["before"], "->", entry["after"],
             ", ".join(entry["fails"]) or entry["message"])
            for entry in found["changed"]
        ]
    )  # fmt: skip
