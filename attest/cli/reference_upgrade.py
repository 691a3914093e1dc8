"""``attest reference add --next``, ``promote`` and ``progress``: from one measurement to the next, guided."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attest.broker.upgrades import Seen
    from policy.stage import Canary

_CANARY = ("planned", "canary_vm", "canary_chip", "canary_releases")


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


def canary_of(args: Namespace) -> Canary | None:
    """What ``--next`` and its options say. Raises ConfigInvalid."""
    from attest.broker.asking import parse_time
    from policy.errors import ConfigInvalid
    from policy.stage import Canary

    if args.next is None:
        if given := [f"--{name.replace('_', '-')}" for name in _CANARY if getattr(args, name)]:
            raise ConfigInvalid(given[0], ("want it with --next only",))
        return None
    chips = tuple(text.lower() for text in args.canary_chip)
    if wrong := [text for text in chips if not text or set(text) - set("0123456789abcdef")]:
        raise ConfigInvalid("--canary-chip", (f"got {wrong[0][:40]!r}, want hexadecimal digits",))
    if args.canary_releases is not None and args.canary_releases < 1:
        raise ConfigInvalid("--canary-releases", (f"got {args.canary_releases}, want at least 1",))
    planned = parse_time(args.planned, "--planned")
    return Canary(args.next, planned, chips, tuple(args.canary_vm), args.canary_releases)


def run_promote(args: Namespace) -> int:
    """Promote; 0."""
    from attest.audit.canonical import rfc3339
    from attest.broker.opening import open_database
    from attest.broker.upgrades import promote
    from attest.cli.common import by_local_user, print_json, print_text, settings_of

    ends = _end(args.retire_old, datetime.now(UTC))
    old = promote(open_database(settings_of(args)), args.name, ends, by_local_user())
    shown = None if ends is None else rfc3339(ends)
    if args.json:
        print_json({"schema": "attest.reference.promote/1", "name": args.name, "old": old, "old_retires": shown})
    else:
        print_text(f"reference value {args.name} in force; {old} {'stays' if shown is None else f'retires {shown}'}")
    return 0


def _end(text: str, now: datetime) -> datetime | None:
    from attest.broker.asking import parse_time

    if text == "never":
        return None
    if text.isascii() and text.isdigit() and len(text) < 5:
        return now + timedelta(days=int(text))
    return parse_time(text, "--retire-old")


def run_progress(args: Namespace) -> int:
    """Show who was last seen on the old value; 10 while somebody was."""
    from attest.audit.canonical import rfc3339
    from attest.broker.opening import open_database
    from attest.broker.upgrades import plan_json, progress
    from attest.cli import OK, STATE
    from attest.cli.common import print_json, print_table, print_text, settings_of

    now = datetime.now(UTC)
    with open_database(settings_of(args)).read() as tx:
        found = progress(tx, args.name)
    ends = None if found.retires is None else rfc3339(found.retires)
    planned = None if found.planned is None else rfc3339(found.planned)
    rows = [_row(one) for one in found.vms]
    behind = sum(not one.moved for one in found.vms)
    if args.json:
        sides = {
            side: {"name": entry.name, **plan_json(entry, now)}
            for side, entry in (("old", found.old), ("new", found.new))
        }
        print_json(
            {"schema": "attest.reference.progress/1", **sides, "planned": planned, "vms": rows, "behind": behind}
        )
        return STATE if behind else OK
    print_table(
        [("CHIP", "VM", f"LAST ON {found.old.name}", f"LAST ON {found.new.name}", ""), *(_cells(row) for row in rows)]
    )
    plan = f", planned {planned}" if planned else ""
    print_text(
        f"{behind} of {len(rows)} still on {found.old.name}, which {f'retires {ends}' if ends else 'stays'}{plan}"
    )
    return STATE if behind else OK


def _row(one: Seen) -> dict[str, Any]:
    from attest.audit.canonical import rfc3339

    old, new = (None if when is None else rfc3339(when) for when in (one.old, one.new))
    return {"chip": one.chip, "vm": one.vm, "old": old, "new": new, "moved": one.moved}


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
