"""``attest audit checkpoint``, ``prove`` and ``verify FILE``: the log as others see it."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

from attest.audit.note import COSIGNATURE, ED25519, Verifier
from attest.broker.log import LogSigner, checkpoint, prove
from attest.broker.opening import open_database
from attest.broker.proof_file import MAX_FILE, Proven, check_proof_file, make_proof_file, parse_proof_file
from attest.cli.common import print_json, print_text, settings_of
from attest.keys.log_key import load_log_key
from attest.settings import Settings
from policy.errors import ConfigInvalid


def run_checkpoint(args: Namespace) -> int:
    """Sign and print the checkpoint of the log as it is now."""
    settings = settings_of(args)
    note = checkpoint(open_database(settings), _signer(settings), datetime.now(UTC))
    print_text(*note.encode().decode().rstrip("\n").split("\n"))
    return 0


def run_prove(args: Namespace) -> int:
    """Write the proof of one record."""
    settings = settings_of(args)
    database = open_database(settings)
    note = checkpoint(database, _signer(settings), datetime.now(UTC))
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
