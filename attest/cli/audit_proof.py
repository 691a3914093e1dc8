"""``attest audit checkpoint``, ``prove``, ``growth`` and ``tiles``: the log as others see it."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

from attest.audit.checkpoint import checkpoint_of
from attest.audit.note import Note
from attest.broker.consistency_file import make_consistency_file
from attest.broker.log import LogSigner, checkpoint, prove
from attest.broker.log_tiles import export_tiles
from attest.broker.opening import open_database
from attest.broker.proof_bundle_make import write_bundle
from attest.broker.proof_file import make_proof_file
from attest.broker.witnessing import cosign_checkpoint, witnesses_of
from attest.cli.common import print_json, print_text, read_file, safe, settings_of, whole_file
from attest.keys.log_key import load_log_key
from attest.settings import Settings
from attest.store.engine import Database
from policy.errors import ConfigInvalid

_NUMBERS = re.compile(r"([0-9]{1,18})(?:\.\.([0-9]{1,18}))?")


def run_checkpoint(args: Namespace) -> int:
    """Sign the checkpoint of the log as it is now, ask the witnesses, print it."""
    settings = settings_of(args)
    note = _cosigned(settings, open_database(settings))
    text = note.encode().decode()
    if args.json:
        point = checkpoint_of(note)
        found = {"log": point.origin, "size": point.size, "root": point.root.hex()}
        signers = [signature.name for signature in note.signatures]
        print_json({"schema": "attest.audit.checkpoint/1", **found, "signed_by": signers, "checkpoint": text})
    else:
        print_text(*text.rstrip("\n").split("\n"))
    return 0


def run_prove(args: Namespace) -> int:
    """Write the proof of one record, or of several in one file."""
    wanted = _numbers(args.number, every=args.all)
    settings = settings_of(args)
    database = open_database(settings)
    note = _cosigned(settings, database)
    if isinstance(wanted, int):
        data = make_proof_file(database, wanted, prove(database, wanted, note)).encode()
        _write(args.output, data)
        what, length = f"proof of record {wanted}", len(data)
    else:
        numbers = wanted or range(1, checkpoint_of(note).size + 1)
        length = _bundle(database, note, numbers, args.output)
        what = f"proofs of records {numbers.start} to {numbers.stop - 1}"
    if args.json:
        print_json({"schema": "attest.audit.prove/1", "file": str(args.output), "bytes": length})
    else:
        print_text(f"{args.output}: {what}, {length} bytes; check it with")
        print_text(f"  attest audit verify {args.output} --log-key log.pub")
    return 0


def _numbers(text: str | None, *, every: bool) -> int | range | None:
    """One record, some one after the other, or ``None`` for all."""
    if every:
        if text is not None:
            raise ConfigInvalid("N", ("with --all no number is wanted",))
        return None
    found = _NUMBERS.fullmatch(text or "")
    if found is None:
        raise ConfigInvalid("N", (f"got {safe(text or 'nothing')[:40]}, want a record's number, FROM..TO, or --all",))
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise ConfigInvalid("N", (f"got {first}..{last}, want the lower number first",))
    return first if found[2] is None else range(first, last + 1)


def _bundle(database: Database, note: Note, numbers: range, path: Path) -> int:
    """Write it whole or not at all: what was begun is not left for a bundle."""
    with whole_file(path) as out:
        return write_bundle(database, note, numbers, out)


def run_growth(args: Namespace) -> int:
    """Write the proof that the log extends an older checkpoint."""
    settings = settings_of(args)
    database = open_database(settings)
    old = read_file(args.old, "checkpoint")
    data = make_consistency_file(database, old, _cosigned(settings, database))
    _write(args.output, data)
    if args.json:
        print_json({"schema": "attest.audit.growth/1", "file": str(args.output), "bytes": len(data)})
    else:
        print_text(f"{args.output}: {len(data)} bytes; check it with")
        print_text(f"  attest audit verify {args.output} --log-key log.pub")
    return 0


def run_tiles(args: Namespace) -> int:
    """Write the log as static files."""
    settings = settings_of(args)
    database = open_database(settings)
    done = export_tiles(database, _cosigned(settings, database), args.folder)
    if args.json:
        print_json({"schema": "attest.audit.tiles/1", "written": done.written, "too_long": list(done.too_long)})
    else:
        long = f"; records {', '.join(map(str, done.too_long))} are too long for a bundle" if done.too_long else ""
        print_text(f"{args.folder}: {done.written} files written{long}")
    return 0


def _cosigned(settings: Settings, database: Database) -> Note:
    """The newest checkpoint, with what the witnesses of the settings say to it; who is missing is said."""
    note = checkpoint(database, _signer(settings), datetime.now(UTC))
    asked = () if settings.audit is None else witnesses_of(settings.audit.witnesses)
    cosigned = cosign_checkpoint(database, note, asked)
    for name, why in cosigned.missing.items():
        sys.stderr.write(f"attest: witness {safe(name)}: {safe(why)}\n")
    return cosigned.note


def _signer(settings: Settings) -> LogSigner:
    if settings.audit is None:
        raise ConfigInvalid("attest.toml", ("$.audit: missing, want the log's origin, key and seen file",))
    audit = settings.audit
    return LogSigner(load_log_key(audit.key_file, audit.origin), audit.seen_file)


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as exc:
        raise ConfigInvalid("--output", (f"{path}: {exc.strerror}",)) from None
