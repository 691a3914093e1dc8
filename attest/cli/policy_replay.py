"""``attest policy replay``: what the evidence on record would have got under a policy."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from datetime import UTC, datetime, timedelta

from attest.audit.canonical import rfc3339
from attest.broker.opening import open_database
from attest.broker.policy_replay import Replay, Replayed
from attest.broker.policy_replay import replay as replay_decisions
from attest.broker.rules import parse_stored
from attest.cli.common import print_json, print_table, print_text, settings_of
from attest.cli.policy_look import policy_named
from attest.store import rules
from policy.errors import ConfigInvalid

_DAYS = timedelta(days=30)
CHANGES, NONE = 7, 0


def replay(args: Namespace) -> int:
    """7 where an outcome would have been another one, else 0."""
    now = datetime.now(UTC)
    since, until = args.since or now - _DAYS, args.until or now
    if since >= until:
        raise ConfigInvalid("--since", (f"{rfc3339(since)} is not before {rfc3339(until)}",))
    document = policy_named(args, args.file)
    with open_database(settings_of(args)).read() as tx:
        stored = rules.active_references(tx) if args.present_references else None
        references = None if stored is None else tuple(map(parse_stored, stored))
        found = replay_decisions(tx, document, since, until, references=references)
    if args.json:
        print_json(_json(found, document.name, since, until))
    else:
        _print(found, document.name, since, until)
    return CHANGES if any(entry.changed for entry in found.decisions) else NONE


def _print(found: Replay, name: str, since: datetime, until: datetime) -> None:
    changed = [entry for entry in found.decisions if entry.changed]
    print_text(f"policy {name}, decisions from {rfc3339(since)} to {rfc3339(until)}: {len(found.decisions)}")
    for (before, after), count in sorted(_moves(found).items()):
        print_text(f"  {before} -> {after}: {count}")
    if found.unreadable:
        print_text(f"  {found.unreadable} more were about evidence that did not parse")
    print_table(
        [(entry.record, rfc3339(entry.time), entry.launch_digest[:16], entry.before, "->", entry.after, _why(entry))
         for entry in changed]
    )  # fmt: skip


def _moves(found: Replay) -> Counter[tuple[str, str]]:
    return Counter((entry.before, entry.after) for entry in found.decisions)


def _why(entry: Replayed) -> str:
    return ", ".join(entry.fails) or entry.message


def _json(found: Replay, name: str, since: datetime, until: datetime) -> dict[str, object]:
    return {
        "schema": "attest.policy.replay/1",
        "policy": name,
        "since": rfc3339(since),
        "until": rfc3339(until),
        "decisions": len(found.decisions),
        "unreadable": found.unreadable,
        "outcomes": [
            {"before": before, "after": after, "count": count}
            for (before, after), count in sorted(_moves(found).items())
        ],
        "changed": [
            {
                "record": entry.record,
                "time": rfc3339(entry.time),
                "launch_digest": entry.launch_digest,
                "before": entry.before,
                "after": entry.after,
                "fails": list(entry.fails),
                "message": entry.message,
            }
            for entry in found.decisions
            if entry.changed
        ],
    }
