"""``attest audit checkpoint``, ``prove``, ``tiles`` and ``verify FILE``: the log as others see it."""

from __future__ import annotations

import sys
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

from attest.audit.note import COSIGNATURE, ED25519, Note, Verifier
from attest.broker.log import LogSigner, checkpoint, prove
from attest.broker.log_tiles import export_tiles
from attest.broker.opening import open_database
from attest.broker.proof_file import MAX_FILE, Proven, check_proof_file, make_proof_file, parse_proof_file
from attest.broker.witnessing import Witness, cosign_checkpoint
from attest.cli.common import print_json, print_text, safe, settings_of
from attest.keys.log_key import load_log_key
from attest.settings import Settings
from attest.store.engine import Database
from policy.errors import ConfigInvalid


def run_checkpoint(args: Namespace) -> int:
    """Sign the checkpoint of the log as it is now, ask the witnesses, print it."""
    settings = settings_of(args)
    note = _cosigned(settings, open_database(settings))
    print_text(*note.encode().decode().rstrip("\n").split("\n"))
    return 0


def run_prove(args: Namespace) -> int:
    """Write the proof of one record."""
    settings = settings_of(args)
    database = open_database(settings)
    note = _cosigned(settings, database)
    data = make_proof_file(database, args.number, prove(database, args.number, note)).encode()
    try:
        args.output.write_bytes(data)
    except OSError as exc:
        raise ConfigInvalid("--output", (f"{args.output}: {exc.strerror}",)) from None
    if args.json:
        print_json({"schema": "attest.audit.prove/1", "file": str(args.output), "bytes": len(data)})
    else:
        print_text(f"{args.output}: proof of record {args.number}, {len(data)} bytes; check it with")
        print_text(f"  attest audit verify {args.output} --log-key log.pub")
    return 0


def run_verify_file(args: Namespace) -> int:
    """Check proof files offline."""
    log = _verifier(args.log_key, ED25519)
    witnesses = [_verifier(text, COSIGNATURE) for text in args.witness]
    found = []
    for path in args.files:
        file = parse_proof_file(_read(path))
        proven = check_proof_file(file, log, witnesses=witnesses, quorum=args.quorum)
        found.append((path, proven))
        if not args.json:
            print_text(*_lines(path, proven))
    if args.json:
        print_json({"schema": "attest.audit.verify-proof/1", "proofs": [_json(path, item) for path, item in found]})
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
    entries = () if settings.audit is None else settings.audit.witnesses
    if not entries:
        return note
    asked = tuple(Witness(url, _verifier(key, COSIGNATURE)) for url, key in entries)
    cosigned = cosign_checkpoint(database, note, asked)
    for name, why in cosigned.missing.items():
        sys.stderr.write(f"attest: witness {safe(name)}: {safe(why)}\n")
    return cosigned.note


def _signer(settings: Settings) -> LogSigner:
    if settings.audit is None:
        raise ConfigInvalid("attest.toml", ("$.audit: missing, want the log's origin, key and seen file",))
    audit = settings.audit
    return LogSigner(load_log_key(audit.key_file, audit.origin), audit.seen_file)


def _verifier(text: str, kind: int) -> Verifier:
    """A key as text, or the file that holds it."""
    path = Path(text)
    verifier = Verifier.parse(_read(path).decode("utf-8", "replace") if path.is_file() else text)
    if verifier.kind != kind:
        raise ConfigInvalid("--log-key or --witness", (f"{verifier.name}: a key of the other kind",))
    return verifier


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except OSError as exc:
        raise ConfigInvalid(str(path), (exc.strerror or "cannot be read",)) from None


def _lines(path: Path, proven: Proven) -> tuple[str, ...]:
    record, point = proven.record, proven.checkpoint
    emulated = " EMULATED" if record["body"].get("emulated") else ""
    again = (
        "; the decision was made again from the evidence in the file, with the same outcome" if proven.repeated else ""
    )
    seen = f", cosigned by {', '.join(proven.witnesses)}" if proven.witnesses else ""
    return (
        f"{path}: record {record['seq']} of {point.origin}: {record['time']} {record['kind']} {record['subject']} "
        f"{record['outcome']}{emulated}",
        f"  in the log of {point.size} records, root {point.root.hex()}{seen}{again}",
    )


def _json(path: Path, proven: Proven) -> dict[str, object]:
    return {
        "file": str(path),
        "record": proven.record,
        "log": proven.checkpoint.origin,
        "size": proven.checkpoint.size,
        "root": proven.checkpoint.root.hex(),
        "witnesses": list(proven.witnesses),
        "repeated": proven.repeated,
    }
