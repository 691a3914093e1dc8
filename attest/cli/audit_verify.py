"""``attest audit verify FILE…``: proofs, consistency files and tile folders, offline, many at once over processes."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from attest.audit.errors import ProofInvalid
from attest.audit.note import COSIGNATURE, ED25519, Verifier
from attest.broker.consistency_file import check_consistency_file, is_consistency_file
from attest.broker.log_folder import check_folder
from attest.broker.presented import Memory
from attest.broker.proof_file import Proven, check_proof_file, parse_proof_file
from attest.broker.proof_form import MAX_FILE
from attest.cli.common import print_json, print_text
from policy.errors import ConfigInvalid, CvmError

_CHUNK = 64
_MEMORY = Memory()


@dataclass(frozen=True, slots=True)
class Keys:
    """What proofs are checked with."""

    log: Verifier
    witnesses: tuple[Verifier, ...]
    quorum: int


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one path. ``found`` stays ``None`` where only ``lines`` are wanted: processes hand over little."""

    path: str
    lines: tuple[str, ...] = ()
    found: dict[str, object] | None = None
    refused: str | None = None


class ProofsRefused(ProofInvalid):
    """Some of many proofs do not hold; each was named before."""

    code = "audit.proofs"


def run_verify(args: Namespace) -> int:
    """Check everything that is named; the first that does not hold ends it, of many each is named."""
    keys = Keys(
        verifier(args.log_key, ED25519), tuple(verifier(text, COSIGNATURE) for text in args.witness), args.quorum
    )
    paths = list(_expand(args.files))
    found, bad = [], 0
    for result in _results(paths, keys, args.processes, whole=args.json):
        if result.refused is not None:
            bad += 1
            print_text(f"{result.path}: REFUSED: {result.refused}")
        elif result.found is not None:
            found.append({"file": result.path, **result.found})
        else:
            print_text(*result.lines)
    if bad:
        raise ProofsRefused(f"{bad} of {len(paths)} do not hold")
    if args.json:
        print_json({"schema": "attest.audit.verify-proof/1", "proofs": found})
    elif len(paths) > 1:
        print_text(f"{len(paths)} hold")
    return 0


def verifier(text: str, kind: int) -> Verifier:
    """A key as text, or the file that holds it."""
    path = Path(text)
    found = Verifier.parse(_read(path).decode("utf-8", "replace") if path.is_file() else text)
    if found.kind != kind:
        raise ConfigInvalid("--log-key or --witness", (f"{found.name}: a key of the other kind",))
    return found


def _expand(paths: Iterable[Path]) -> Iterator[Path]:
    """A folder stands for the files in it; one with a checkpoint is a log."""
    for path in paths:
        if path.is_dir() and not (path / "checkpoint").is_file():
            yield from sorted(item for item in path.iterdir() if item.suffix == ".json")
        else:
            yield path


def _results(paths: Sequence[Path], keys: Keys, processes: int, *, whole: bool) -> Iterator[Result]:
    """What became of each path, in order."""
    if len(paths) == 1:
        yield _held(paths[0], keys, whole)
        return
    if processes < 2:
        yield from (_check(path, keys, whole) for path in paths)
        return
    check = partial(_check, keys=keys, whole=whole)
    with ProcessPoolExecutor(min(processes, os.cpu_count() or 1, len(paths))) as pool:
        yield from pool.map(check, paths, chunksize=_CHUNK)


def _check(path: Path, keys: Keys, whole: bool) -> Result:
    """What a file proves, or why it proves nothing."""
    try:
        return _held(path, keys, whole)
    except CvmError as exc:
        return Result(str(path), refused=exc.message)


def _held(path: Path, keys: Keys, whole: bool) -> Result:
    found = _prove(path, keys, whole)
    return Result(str(path), found=found) if whole else Result(str(path), _lines(str(path), found))


def _prove(path: Path, keys: Keys, whole: bool) -> dict[str, object]:
    """What one process remembers between files are chains, not verdicts."""
    if path.is_dir():
        folder = check_folder(path, keys.log)
        return {"kind": "log", "size": folder.checkpoint.size, "tiles": folder.tiles, "records": folder.entries}
    data = _read(path)
    if is_consistency_file(data):
        grown = check_consistency_file(data, keys.log)
        return {"kind": "consistency", "old": grown.old.size, "size": grown.new.size}
    file = parse_proof_file(data, _MEMORY)
    proven = check_proof_file(file, keys.log, witnesses=keys.witnesses, quorum=keys.quorum, memory=_MEMORY)
    return {"kind": "record", **_json(proven, whole)}


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except OSError as exc:
        raise ConfigInvalid(str(path), (exc.strerror or "cannot be read",)) from None


def _lines(path: str, result: dict[str, Any]) -> tuple[str, ...]:
    if result["kind"] == "log":
        return (f"{path}: the log of {result['size']} records, {result['tiles']} tiles, {result['records']} records",)
    if result["kind"] == "consistency":
        return (f"{path}: the log of {result['size']} records extends that of {result['old']}",)
    record = result["record"]
    emulated = " EMULATED" if record["body"].get("emulated") else ""
    again = "; the decision was made again from the evidence in the file, with the same outcome"
    seen = f", cosigned by {', '.join(result['witnesses'])}" if result["witnesses"] else ""
    return (
        f"{path}: record {record['seq']} of {result['log']}: {record['time']} {record['kind']} {record['subject']} "
        f"{record['outcome']}{emulated}",
        f"  in the log of {result['size']} records, root {result['root']}{seen}{again if result['repeated'] else ''}",
    )


def _json(proven: Proven, whole: bool) -> dict[str, object]:
    return {
        "record": proven.record if whole else proven.brief,
        "log": proven.checkpoint.origin,
        "size": proven.checkpoint.size,
        "root": proven.checkpoint.root.hex(),
        "witnesses": list(proven.witnesses),
        "repeated": proven.repeated,
    }
