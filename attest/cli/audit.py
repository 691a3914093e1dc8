"""``attest audit``: what was decided and released, why, whether the records are complete, and proofs for strangers."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

DESCRIPTION = "List, export, show, prove or verify the records of decisions and releases."


def add_arguments(parser: ArgumentParser) -> None:
    """``list``, ``export``, ``show``, ``ask``, ``verify``, ``prove``, ``growth``, ``checkpoint``, ``tiles``."""
    from pathlib import Path

    from attest.cli.audit_questions import add_question
    from attest.cli.common import add_config, add_json
    from attest.cli.remote import add_where

    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = verbs.add_parser("list", help="list records, oldest first", allow_abbrev=False)
    _add_filters(listing)
    listing.add_argument("--limit", type=int, metavar="N", help="only the newest N")
    export = verbs.add_parser("export", help="write records as JSON, CSV or a printable page", allow_abbrev=False)
    export.add_argument("--format", required=True, choices=("json", "csv", "html"), help="what to write")
    export.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="where to write it")
    _add_filters(export)
    show = verbs.add_parser("show", help="show one record with every check", allow_abbrev=False)
    show.add_argument("number", type=int, metavar="N", help="the record's number")
    verify = verbs.add_parser(
        "verify",
        help="check proof files offline, or the whole trail: its chain, every decision again",
        allow_abbrev=False,
    )
    verify.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="proofs, folders of proofs, or the log as files; none: this service's trail",
    )
    verify.add_argument("--log-key", metavar="KEY|FILE", help="the log's public key (log.pub), for proof files")
    verify.add_argument("--witness", action="append", default=[], metavar="KEY|FILE", help="a witness's public key")
    verify.add_argument("--quorum", type=int, default=0, metavar="N", help="so many witnesses must have cosigned (0)")
    verify.add_argument("--processes", type=int, default=1, metavar="N", help="check proofs in so many processes (1)")
    verify.add_argument("--head", metavar="N:SHA256", help="a head noted before, still to be found in the chain")
    prove = verbs.add_parser("prove", help="write the proof of records, for anybody to check", allow_abbrev=False)
    prove.add_argument("number", nargs="?", metavar="N|FROM..TO", help="the record's number, or several in one file")
    prove.add_argument("--all", action="store_true", help="every record of the log in one file")
    prove.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="where to write it")
    growth = verbs.add_parser("growth", help="prove that the log extends an older checkpoint", allow_abbrev=False)
    growth.add_argument("old", type=Path, metavar="CHECKPOINT", help="the older checkpoint, as it was printed")
    growth.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="where to write the proof")
    checkpoint = verbs.add_parser("checkpoint", help="have a checkpoint signed, and print it", allow_abbrev=False)
    tiles = verbs.add_parser("tiles", help="write the log as static files (C2SP tlog-tiles)", allow_abbrev=False)
    tiles.add_argument("folder", type=Path, metavar="DIR", help="the folder; what is there already is kept")
    asking = verbs.add_parser("ask", help="answer what auditors ask", allow_abbrev=False)
    add_question(asking)
    for child in (listing, export, show, verify, prove, growth, checkpoint, tiles, asking):
        (add_config if child in (export, verify, tiles) else add_where)(child)
        add_json(child)


def _add_filters(parser: ArgumentParser) -> None:
    parser.add_argument("--since", metavar="TIME", help="not older than this RFC 3339 date or time")
    parser.add_argument("--until", metavar="TIME", help="older than this RFC 3339 date or time")
    for name, words in (
        ("vm", "the first reference value the guest matched, or the launched VM's name"),
        ("chip", "CHIP_ID or PPID, hexadecimal, or how it begins"),
        ("measurement", "launch digest, hexadecimal, or how it begins"),
        ("resource", "the path of a resource"),
    ):
        parser.add_argument(f"--{name}", metavar=name.upper(), help=f"only records of it: {words}")
    parser.add_argument("--kind", metavar="KIND", help="only records of this kind: decision, release …")


def run(args: Namespace) -> int:
    """One of the verbs; 0. A broken trail or proof is exit 6."""
    if args.action in ("prove", "growth", "checkpoint", "tiles") or getattr(args, "files", None):
        return _proofs(args)
    return {"list": _list, "export": _export, "ask": _ask, "show": _show, "verify": _verify}[args.action](args)


def _proofs(args: Namespace) -> int:
    from attest.cli import audit_proof, audit_verify
    from policy.errors import ConfigInvalid

    if args.action == "verify":
        if args.log_key is None:
            raise ConfigInvalid("--log-key", ("a proof is checked with the log's public key: give log.pub",))
        return audit_verify.run_verify(args)
    verbs = {
        "prove": audit_proof.run_prove,
        "growth": audit_proof.run_growth,
        "tiles": audit_proof.run_tiles,
        "checkpoint": audit_proof.run_checkpoint,
    }
    return verbs[args.action](args)


def _list(args: Namespace) -> int:
    from attest.cli.audit_questions import run_list

    return run_list(args)


def _export(args: Namespace) -> int:
    from attest.cli.audit_export import run_export

    return run_export(args)


def _ask(args: Namespace) -> int:
    from attest.cli.audit_questions import run_ask

    return run_ask(args)


def _show(args: Namespace) -> int:
    import hashlib
    from typing import Any

    from attest.audit.chain import parse_record
    from attest.cli.audit_text import record_lines
    from attest.cli.common import print_json, print_text

    data = _record(args)
    record: Any = parse_record(data, f"audit record {args.number}")
    if args.json:
        print_json(record)
    else:
        print_text(*record_lines(record, hashlib.sha256(data).hexdigest()))
    return 0


def _record(args: Namespace) -> bytes:
    """Its canonical bytes. Raises NotFound."""
    from attest.broker.opening import open_database
    from attest.cli.common import settings_of
    from attest.cli.operator import ask
    from attest.store import records
    from attest.store.errors import NotFound

    if args.service is not None:
        return ask(args, "GET", f"/cvm/v0/audit/{args.number}", {})
    with open_database(settings_of(args)).read() as tx:
        stored = records.get(tx, args.number)
    if stored is None:
        raise NotFound(f"audit record {args.number}: not found")
    return stored.record


def _verify(args: Namespace) -> int:
    from attest.broker.opening import open_database
    from attest.broker.verify_trail import parse_head, verify_trail
    from attest.cli.common import print_json, print_text, settings_of

    wanted = None if args.head is None else parse_head(args.head)
    checked = verify_trail(open_database(settings_of(args)), wanted)
    if args.json:
        print_json(
            {
                "schema": "attest.audit.verify/1",
                "records": checked.records,
                "repeated": checked.repeated,
                "unrepeatable": checked.unrepeatable,
                "head": checked.head.sha256.hex(),
                "head_number": checked.head.seq,
            }
        )
        return 0
    print_text(
        f"{checked.records} records, chain unbroken; {checked.repeated} decisions made again with the same outcome, "
        f"{checked.unrepeatable} rest on evidence that was not readable",
        f"head {checked.head} — note it elsewhere: `--head` then notices if the newest records are cut off",
    )
    return 0
