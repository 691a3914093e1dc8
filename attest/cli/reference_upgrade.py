"""``attest reference add --next``, ``promote`` and ``progress``: from one measurement to the next, guided."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from attest.broker.upgrade_plan import Plan
    from attest.cli.remote import Request


def add_upgrade(verbs: _SubParsersAction[ArgumentParser], add: ArgumentParser) -> tuple[ArgumentParser, ArgumentParser]:
    """The options of ``add``, and the two verbs."""
    add.add_argument("--next", metavar="OLD", help="not in force yet: it is to follow the value of this name")
    add.add_argument("--planned", metavar="TIME", help="with --next: when it is to be promoted, for people")
    add.add_argument(
        "--canary-vm", action="append", default=[], metavar="NAME", help="with --next: this VM (init-data) may use it"
    )
    add.add_argument(
        "--canary-chip", action="append", default=[], metavar="HEX", help="with --next: VMs on this chip may use it"
    )
    add.add_argument(
        "--canary-releases", type=int, metavar="N", help="with --next: at most N releases; of anybody if none is named"
    )
    promote = verbs.add_parser(
        "promote", help="let everybody use the next value, and end the old one", allow_abbrev=False
    )
    promote.add_argument("name", metavar="NAME", help="name of the next value")
    promote.add_argument(
        "--retire-old", default="30", metavar="DAYS|TIME|never", help="when the old value stops counting (30 days)"
    )
    progress = verbs.add_parser("progress", help="which VMs still run the old value", allow_abbrev=False)
    progress.add_argument("name", metavar="NAME", help="name of the next value, promoted or not")
    return promote, progress


def plan_of(args: Namespace) -> Plan:
    """What ``--next`` and its options say."""
    from attest.broker.upgrade_plan import Plan

    return Plan(args.next, args.planned, args.canary_vm, args.canary_chip, args.canary_releases)


def plan_query(args: Namespace) -> dict[str, str]:
    """The same for a service. Raises RequestMalformed."""
    from attest.broker.errors import RequestMalformed

    plan = plan_of(args)
    plan.canary()
    if any("," in name for name in plan.vms):
        raise RequestMalformed("canary-vm: got a name with a comma, which divides names where a service is asked")
    found = {
        "next": plan.follows,
        "planned": plan.planned,
        "canary-vm": ",".join(plan.vms),
        "canary-chip": ",".join(plan.chips),
        "canary-releases": None if plan.releases is None else str(plan.releases),
    }
    return {name: value for name, value in found.items() if value}


def promotion(args: Namespace) -> Request:
    """``promote`` of a service."""
    from attest.cli.remote import Request

    where = f"/cvm/v0/reference-value/{quote(args.name, safe='')}/promotion"
    return Request("POST", where, {"retire-old": args.retire_old})


def run_promote(args: Namespace) -> int:
    """Promote; 0."""
    from attest.audit.canonical import rfc3339
    from attest.broker.opening import open_database
    from attest.broker.upgrade_plan import parse_end
    from attest.broker.upgrades import promote
    from attest.cli.common import by_local_user, print_json, settings_of

    ends = parse_end(args.retire_old, datetime.now(UTC))
    old = promote(open_database(settings_of(args)), args.name, ends, by_local_user())
    found = {"name": args.name, "old": old, "old_retires": None if ends is None else rfc3339(ends)}
    if args.json:
        print_json({"schema": "attest.reference.promote/1", **found})
    else:
        print_promoted(found)
    return 0


def print_promoted(found: Mapping[str, Any]) -> None:
    """In words."""
    from attest.cli.common import print_text

    end = "stays" if found["old_retires"] is None else f"retires {found['old_retires']}"
    print_text(f"reference value {found['name']} in force; {found['old']} {end}")


def run_progress(args: Namespace) -> int:
    """Show who was last seen on the old value; 10 while somebody was."""
    from attest.cli import OK, STATE
    from attest.cli.common import print_json

    found = _progress(args)
    if args.json:
        print_json({"schema": "attest.reference.progress/1", **found})
    else:
        _print_progress(found)
    return STATE if found["behind"] else OK


def _progress(args: Namespace) -> dict[str, Any]:
    """Of the database, or of a service."""
    from attest.broker.opening import open_database
    from attest.broker.upgrade_plan import progress_json
    from attest.broker.upgrades import progress
    from attest.cli.common import settings_of

    if args.service is not None:
        from attest.cli.remote import Request, answer

        return answer(args, Request("GET", f"/cvm/v0/reference-value/{quote(args.name, safe='')}/progress"))
    with open_database(settings_of(args)).read() as tx:
        found = progress(tx, args.name)
    return progress_json(found, datetime.now(UTC))


def _print_progress(found: Mapping[str, Any]) -> None:
    from attest.cli.common import print_table, print_text

    old, new, rows, ends = found["old"]["name"], found["new"]["name"], found["vms"], found["retires"]
    print_table([("CHIP", "VM", f"LAST ON {old}", f"LAST ON {new}", ""), *(_cells(row) for row in rows)])
    plan = f", planned {found['planned']}" if found["planned"] else ""
    print_text(f"{found['behind']} of {len(rows)} still on {old}, which {f'retires {ends}' if ends else 'stays'}{plan}")


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    chip = row["chip"][:16] if row["chip"] else "-"
    return chip, row["vm"] or "-", row["old"] or "-", row["new"] or "-", "moved" if row["moved"] else "OLD"


def state_text(entry: Mapping[str, Any]) -> str:
    """The state of a listed value in words."""
    if entry["retired"]:
        return f"retired {entry['retired']} by {entry['retired_by']}"
    stage = entry["stage"] or {"canary": None, "retires": None}
    canary = stage["canary"]
    if canary is None:
        return entry["state"] if stage["retires"] is None else f"{entry['state']}, until {stage['retires']}"
    named = [*canary["vms"], *(chip[:16] for chip in canary["chips"])]
    limit = canary["releases"]
    count = "" if limit is None else f"{entry['canary_releases']} of {limit} releases"
    who = ", ".join([*named, *([count] if count else [])]) or "nobody yet"
    planned = f", planned {canary['planned']}" if canary["planned"] else ""
    return f"next after {canary['follows']}{planned}, for {who}"
