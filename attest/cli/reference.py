"""``attest reference``: the launch digests that guests are expected to report."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attest.cli.remote import Request, Requests

DESCRIPTION = "Add, list or retire reference values; explain why a refused guest's launch digest is none of them."


def add_arguments(parser: ArgumentParser) -> None:
    """``add``, ``promote``, ``progress``, ``list``, ``retire``, ``explain``."""
    from attest.cli.common import add_json
    from attest.cli.reference_upgrade import add_upgrade
    from attest.cli.remote import add_where

    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = verbs.add_parser("add", help="register a file of `cvm measure -o`", allow_abbrev=False)
    add.add_argument("file", type=Path, metavar="FILE", help="a cvm.reference/1 file")
    listing = verbs.add_parser("list", help="list reference values, retired ones too", allow_abbrev=False)
    retire = verbs.add_parser("retire", help="take a value out of force; guests attest again", allow_abbrev=False)
    retire.add_argument("name", metavar="NAME", help="name of the reference value")
    explain = verbs.add_parser("explain", help="which input of a refused guest differs", allow_abbrev=False)
    explain.add_argument("--decision", type=int, required=True, metavar="N", help="number of the decision's record")
    explain.add_argument("--reference", metavar="NAME", help="compare with this value (default: the closest)")
    explain.add_argument(
        "--candidate", type=Path, action="append", default=[], metavar="FILE", help="what an SNP guest may have been"
    )
    for child in (add, listing, retire, explain, *add_upgrade(verbs, add)):
        add_where(child)
        add_json(child)


def run(args: Namespace) -> int:
    """One of them; 0."""
    from attest.cli import reference_upgrade as upgrade
    from attest.cli.remote import asked

    show = {"list": _print_list, "promote": upgrade.print_promoted, "explain": _print_explained}.get(args.action)
    if args.action in _requests() and asked(args, _requests(), "reference", args.action, show):
        return 0
    verbs = {"add": _add, "list": _list, "retire": _retire, "explain": _explain}
    return (verbs | {"promote": upgrade.run_promote, "progress": upgrade.run_progress})[args.action](args)


def _requests() -> Requests:
    from urllib.parse import quote

    from attest.cli.reference_upgrade import plan_query, promotion
    from attest.cli.remote import Request

    return {
        "add": lambda args: Request("POST", "/cvm/v0/reference-value", plan_query(args), _statement(args)),
        "promote": promotion,
        "list": lambda args: Request("GET", "/cvm/v0/reference-value"),
        "explain": _explain_request,
        "retire": lambda args: Request("DELETE", f"/cvm/v0/reference-value/{quote(args.name, safe='')}"),
    }


def _statement(args: Namespace) -> bytes:
    """The file, in an envelope with the signatures beside it where there are some. Raises ConfigInvalid."""
    from attest.cli.common import read_file
    from attest.keys.statement import REFERENCE, envelope, signature_beside, unwrap

    data, beside = read_file(args.file, "reference value", 2 << 20), signature_beside(args.file)
    if not beside.exists():
        return data
    return envelope(REFERENCE, unwrap(data, REFERENCE, read_file(beside, "signatures")), detached=False)


def _add(args: Namespace) -> int:
    from attest.broker.opening import open_database, signers_of
    from attest.broker.operations import add_reference
    from attest.cli.common import by_local_user, print_json, print_text, read_file, settings_of
    from attest.cli.reference_upgrade import plan_of
    from attest.keys.statement import REFERENCE, signature_beside, unwrap

    settings, beside = settings_of(args), signature_beside(args.file)
    signatures = read_file(beside, "signatures") if beside.exists() else None
    signed = unwrap(read_file(args.file, "reference value", 2 << 20), REFERENCE, signatures)
    canary = plan_of(args).canary()
    value = add_reference(open_database(settings), signed, by_local_user(), signers_of(settings), canary)
    digest, word = value.launch_digest.hex(), "registered" if canary is None else f"registered after {canary.follows}"
    if args.json:
        print_json({"schema": "attest.reference.add/1", "name": value.name, "launch_digest": digest})
    else:
        print_text(f"reference value {value.name} {word}: {digest} ({value.platform.value})")
    return 0


def _list(args: Namespace) -> int:
    from datetime import UTC, datetime

    from attest.broker.opening import open_database
    from attest.broker.upgrades import plan_json
    from attest.broker.views import reference_json
    from attest.cli.common import print_json, settings_of
    from attest.store import rules

    now = datetime.now(UTC)

    with open_database(settings_of(args)).read() as tx:
        found = [reference_json(entry) | plan_json(entry, now) for entry in rules.all_references(tx)]
    if args.json:
        print_json({"schema": "attest.reference.list/1", "references": found})
    else:
        _print_list({"references": found})
    return 0


def _print_list(found: dict[str, Any]) -> None:
    from attest.cli.common import print_table
    from attest.cli.reference_upgrade import state_text

    rows = [("NAME", "PLATFORM", "LAUNCH DIGEST", "ADDED", "BY", "STATE")]
    for entry in found["references"]:
        about = (entry["name"], entry["platform"], entry["launch_digest"], entry["added"], entry["added_by"])
        rows.append((*about, state_text(entry)))
    print_table(rows)


def _retire(args: Namespace) -> int:
    from attest.broker.opening import open_database
    from attest.broker.operations import retire_reference
    from attest.cli.common import by_local_user, print_json, print_text, settings_of

    retire_reference(open_database(settings_of(args)), args.name, by_local_user())
    if args.json:
        print_json({"schema": "attest.reference.retire/1", "name": args.name})
    else:
        print_text(f"reference value {args.name} retired; guests that matched it must attest again and are refused")
    return 0


def _explain(args: Namespace) -> int:
    from attest.broker.explain_refusal import explain_refusal, explained_json
    from attest.broker.opening import open_database
    from attest.cli.common import print_json, read_file, settings_of
    from policy.reference import reference_from_bytes

    candidates = [reference_from_bytes(read_file(path, "candidate")) for path in args.candidate]
    explained = explain_refusal(open_database(settings_of(args)), args.decision, candidates, reference=args.reference)
    found = explained_json(args.decision, explained)
    if args.json:
        print_json({"schema": "attest.reference.explain/1", **found})
    else:
        _print_explained(found)
    return 0


def _explain_request(args: Namespace) -> Request:
    """Candidates go along as they are, parsed here only to say which file is none."""
    import json

    from attest.cli.common import read_file
    from attest.cli.remote import Request
    from policy.reference import reference_from_bytes, reference_to_json

    sent = [reference_to_json(reference_from_bytes(read_file(path, "candidate"))) for path in args.candidate]
    query = {} if args.reference is None else {"reference": args.reference}
    return Request("POST", f"/cvm/v0/decisions/{args.decision}/explanation", query, json.dumps(sent).encode())


def _print_explained(found: dict[str, Any]) -> None:
    """In words; of a TD the digest is its MRTD, and each difference is in the text."""
    from attest.cli.common import print_text

    of_td = "registers" in found
    digest = "MRTD " if of_td else ""
    print_text(
        f"decision {found['decision']}, compared with reference value {found['reference']}",
        f"expected  {digest}{found['expected']}",
        f"reported  {digest}{found['reported']}",
        found["text"],
    )
    for item in () if of_td else found["differences"]:
        print_text(f"  {item['label']}: expected {item['expected']}, got {item['reported']}")
