"""``attest audit verify FILE…``: proofs, bundles, consistency files and tile folders, offline, many over processes."""

from __future__ import annotations

import gc
import os
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from attest.audit.errors import ProofInvalid
from attest.audit.note import COSIGNATURE, ED25519, Verifier
from attest.broker.consistency_file import check_consistency_file, is_consistency_file
from attest.broker.log_folder import check_folder
from attest.broker.presented import Memory
from attest.broker.proof_bundle import START, Block, Bundle, Trust, is_bundle
from attest.broker.proof_file import check_proof_file, parse_proof_file
from attest.broker.proof_form import MAX_FILE
from attest.cli.audit_results import Result, of_growth, of_log, of_record
from attest.cli.common import print_json, print_text
from policy.errors import ConfigInvalid, CvmError

_MOST = 64
"""Files of one share."""
_MEMORY = Memory()
"""What one process remembers between files: chains, not verdicts."""


class Task(NamedTuple):
    """A path to check, as text: that is handed over soonest. Of a bundle one block, or why it cannot be read."""

    path: str
    block: Block | None = None
    refused: str | None = None


Share = list[Task]


class ProofsRefused(ProofInvalid):
    """Some of many proofs do not hold; each was named before."""

    code = "audit.proofs"


def run_verify(args: Namespace) -> int:
    """Check everything that is named; a single thing that does not hold ends it, of many each is named."""
    witnesses = tuple(verifier(text, COSIGNATURE) for text in args.witness)
    trust = Trust(verifier(args.log_key, ED25519), witnesses, args.quorum)
    found, good, bad = [], 0, 0
    for result in _results(list(_expand(args.files)), trust, args.processes, whole=args.json):
        if result.refused is not None:
            bad += 1
            print_text(f"{result.path}: REFUSED: {result.refused}")
            continue
        good += 1
        if result.found is not None:
            found.append({"file": result.path, **result.found})
        else:
            print_text(*result.lines)
    if bad:
        raise ProofsRefused(f"{bad} of {good + bad} do not hold")
    if args.json:
        print_json({"schema": "attest.audit.verify-proof/1", "proofs": found})
    elif good > 1:
        print_text(f"{good} hold")
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


def _results(paths: Sequence[Path], trust: Trust, processes: int, *, whole: bool) -> Iterator[Result]:
    """What became of each path and of each record of a bundle, in order."""
    if len(paths) == 1 and not is_bundle(_start(str(paths[0]))):
        yield _path(str(paths[0]), trust, whole, alone=True)
        return
    check = partial(_check, trust=trust, whole=whole)
    processes = min(processes, os.cpu_count() or 1)
    shares = _shares(paths, processes)
    gc.freeze()  # what is loaded now stays: neither this process nor those it forks look through it meanwhile
    try:
        first = list(islice(shares, processes))
        if len(first) > 1:
            yield from _by_processes(check, chain(first, shares), len(first))
        else:
            yield from chain.from_iterable(map(check, chain(first, shares)))
    finally:
        gc.unfreeze()


def _by_processes(check: Callable[[Share], list[Result]], shares: Iterable[Share], workers: int) -> Iterator[Result]:
    """The first shares are checked while the later ones are made."""
    with ProcessPoolExecutor(workers) as pool:
        try:
            for results in pool.map(check, shares):
                yield from results
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _shares(paths: Sequence[Path], workers: int) -> Iterator[Share]:
    """Tasks for one process at a time: fewer and fewer files, so that all end together. Blocks are large."""
    share: Share = []
    for left, path in zip(range(len(paths), 0, -1), paths, strict=True):
        for task in _tasks(str(path)):
            share.append(task)
            if task.block is not None or len(share) >= min(_MOST, left // (4 * workers)):
                yield share
                share = []
    if share:
        yield share


def _tasks(path: str) -> Iterator[Task]:
    """A bundle is as many tasks as it has blocks."""
    if not is_bundle(_start(path)):
        yield Task(path)
        return
    try:
        yield from (Task(path, block) for block in _bundle(path).blocks)
    except CvmError as exc:
        yield Task(path, refused=exc.message)


def _check(share: Share, trust: Trust, whole: bool) -> list[Result]:
    """What each task of a share proves, or why it proves nothing."""
    return [result for task in share for result in _checked(task, trust, whole)]


def _checked(task: Task, trust: Trust, whole: bool) -> list[Result]:
    name = task.path
    if task.refused is not None:
        return [Result(name, refused=task.refused)]
    try:
        if task.block is None:
            return [_path(name, trust, whole)]
        checked = list(_bundle(name).check(task.block, trust, _MEMORY))
    except CvmError as exc:
        return [Result(name, refused=exc.message)]
    return [
        Result(name, refused=refused) if proven is None else of_record(name, proven, whole)
        for _, proven, refused in checked
    ]


def _path(name: str, trust: Trust, whole: bool, *, alone: bool = False) -> Result:
    """What a file or folder proves. Raises CvmError."""
    path = Path(name)
    if path.is_dir():
        folder = check_folder(path, trust.log)
        found = {"size": folder.checkpoint.size, "tiles": folder.tiles, "records": folder.entries}
        return of_log(name, found, whole)
    data = _read(path)
    if is_consistency_file(data):
        grown = check_consistency_file(data, trust.log)
        return of_growth(name, {"old": grown.old.size, "size": grown.new.size}, whole)
    file = parse_proof_file(data, _MEMORY)
    proven = check_proof_file(file, trust.log, witnesses=trust.witnesses, quorum=trust.quorum, memory=_MEMORY)
    return of_record(name, proven, whole, alone=alone)


def _bundle(path: str) -> Bundle:
    try:
        state = os.stat(path)
        return _opened(path, (state.st_ino, state.st_size, state.st_mtime_ns))
    except OSError as exc:
        raise ConfigInvalid(path, (exc.strerror or "cannot be read",)) from None


@lru_cache(8)
def _opened(path: str, state: tuple[int, ...]) -> Bundle:
    """Once by each process; in another ``state`` it is another file."""
    return Bundle(Path(path))


def _start(path: str) -> bytes:
    """What tells a bundle from other files; nothing of a folder. One process does this for all files, hence no more."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, len(START))
        finally:
            os.close(descriptor)
    except IsADirectoryError:
        return b""
    except OSError as exc:
        raise ConfigInvalid(path, (exc.strerror or "cannot be read",)) from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except OSError as exc:
        raise ConfigInvalid(str(path), (exc.strerror or "cannot be read",)) from None
