"""``attest audit checkpoint``, ``prove``, ``growth`` and ``tiles``: the log as others see it."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

from attest.audit.checkpoint import checkpoint_of
from attest.audit.note import Note
from attest.broker.consistency_file import make_consistency_file
from attest.broker.log import LogSigner, checkpoint
from attest.broker.log_tiles import export_tiles
from attest.broker.opening import open_database
from attest.broker.proof_bundle_make import write_bundle
from attest.broker.proof_file_make import make_proof_file
from attest.broker.witnessing import cosign_checkpoint, witnesses_of
from attest.cli.audit_there import LogThere
from attest.cli.common import print_json, print_text, read_file, safe, settings_of, whole_file
from attest.keys.log_key import load_log_key
from attest.settings import Settings
from attest.store.engine import Database
from policy.errors import ConfigInvalid

_NUMBERS = re.compile(r"([0-9]{1,18})(?:\.\.([0-9]{1,18}))?")


@dataclass(frozen=True, slots=True)
class LogHere:
    """The log in the database of this machine, which is signed here and now."""

    settings: Settings
    database: Database

    @classmethod
    def of(cls, args: Namespace) -> LogHere:
        """That of the settings."""
        settings = settings_of(args)
        return cls(settings, open_database(settings))

    def checkpoint(self) -> Note:
        """The newest, with what the witnesses of the settings say to it; who is missing is said."""
        note = checkpoint(self.database, _signer(self.settings), datetime.now(UTC))
        asked = () if self.settings.audit is None else witnesses_of(self.settings.audit.witnesses)
        cosigned = cosign_checkpoint(self.database, note, asked)
        for name, why in cosigned.missing.items():
            sys.stderr.write(f"attest: witness {safe(name)}: {safe(why)}\n")
        return cosigned.note

    def prove(self, wanted: int | range | None, out: BinaryIO) -> str:
        """Write a proof, or a bundle of several; what it is of. ``None``: every record."""
        note = self.checkpoint()
        if isinstance(wanted, int):
            out.write(make_proof_file(self.database, wanted, note).encode())
            return f"proof of record {wanted}"
        numbers = wanted or range(1, checkpoint_of(note).size + 1)
        write_bundle(self.database, note, numbers, out)
        return f"proofs of records {numbers.start} to {numbers.stop - 1}"

    def growth(self, old: bytes, out: BinaryIO) -> None:
        """Write the proof that the log extends ``old``."""
        out.write(make_consistency_file(self.database, old, self.checkpoint()))


def run_checkpoint(args: Namespace) -> int:
    """Have the checkpoint of the log as it is now signed, and print it."""
    note = _log(args).checkpoint()
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
    with whole_file(args.output) as out:
        what = _log(args).prove(wanted, out)
    return _told(args, "prove", f"{what}, ")


def run_growth(args: Namespace) -> int:
    """Write the proof that the log extends an older checkpoint."""
    old = read_file(args.old, "checkpoint")
    with whole_file(args.output) as out:
        _log(args).growth(old, out)
    return _told(args, "growth")


def _log(args: Namespace) -> LogHere | LogThere:
    return LogHere.of(args) if args.service is None else LogThere(args)


def _told(args: Namespace, verb: str, what: str = "") -> int:
    length = args.output.stat().st_size
    if args.json:
        print_json({"schema": f"attest.audit.{verb}/1", "file": str(args.output), "bytes": length})
    else:
        print_text(f"{args.output}: {what}{length} bytes; check it with")
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


def run_tiles(args: Namespace) -> int:
    """Write the log as static files."""
    log = LogHere.of(args)
    done = export_tiles(log.database, log.checkpoint(), args.folder)
    if args.json:
        print_json({"schema": "attest.audit.tiles/1", "written": done.written, "too_long": list(done.too_long)})
    else:
        long = f"; records {', '.join(map(str, done.too_long))} are too long for a bundle" if done.too_long else ""
        print_text(f"{args.folder}: {done.written} files written{long}")
    return 0


def _signer(settings: Settings) -> LogSigner:
    if settings.audit is None:
        raise ConfigInvalid("attest.toml", ("$.audit: missing, want the log's origin, key and seen file",))
    audit = settings.audit
    return LogSigner(load_log_key(audit.key_file, audit.origin), audit.seen_file)
