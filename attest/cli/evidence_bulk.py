"""``attest evidence verify DIR``: every file below a folder, one line each; the exit code is the worst outcome.

Work is spread over the processors this process may use, a batch of files a task. AWS-LC (``awscrt``) holds the
interpreter's lock while it verifies, so it gets processes; ``cryptography`` releases it, so it gets threads. Each
worker has one :class:`Bench` and with it one memory of chains.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import stat
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from attest.cli.evidence_file import DENIED, EXIT, FAILED, GENUINE, MALFORMED, UNAVAILABLE, FileUnreadable, refuse
from attest.cli.evidence_judge import Bench, Result
from attest.cli.evidence_text import printable
from attest.cli.evidence_verify import bench_of
from attest.endorsement.p384 import HAVE_AWSCRT
from policy.errors import CvmError

WORST_FIRST = (FAILED, DENIED, MALFORMED, UNAVAILABLE, GENUINE)
"""What decides the exit code: evidence that is wrong before evidence that cannot be read or judged."""

_BATCH = 64
_WORTH_WORKERS = 512
_AHEAD = 8
_MAX_FILE = 16 << 20
_REDRAW_SECONDS = 0.2
_MOVE_ON = "\r\x1b[K"


class Line(NamedTuple):
    """One file's outcome and the text that reports it."""

    outcome: str
    text: str


def verify_folder(args: argparse.Namespace, now: datetime, today: datetime) -> int:
    """Verify every file below ``args.file``, print a line for each in the order of names, return the exit code."""
    try:
        bench = bench_of(args, now, today)  # says at once what is wrong with the options
        files = _files(args.file)
    except CvmError as exc:
        return refuse(exc, as_json=args.json)
    counted: Counter[str] = Counter()
    with _progress(len(files)) as shown, _judging(args, bench, (now, today), len(files)) as judged:
        for lines in judged(files):
            sys.stdout.write("".join(line.text for line in lines))
            counted.update(line.outcome for line in lines)
            shown(counted)
    sys.stdout.flush()
    total = ", ".join(f"{counted[outcome]} {outcome}" for outcome in reversed(WORST_FIRST) if counted[outcome])
    sys.stderr.write(f"attest: {len(files)} files: {total}\n")
    return EXIT[next(outcome for outcome in WORST_FIRST if counted[outcome])]


Judged = Callable[[list[str]], Iterator[list[Line]]]


@contextmanager
def _judging(args: argparse.Namespace, bench: Bench, times: tuple[datetime, datetime], files: int) -> Iterator[Judged]:
    """A function from files to lines, in order; it uses workers where there are enough files to pay for them."""
    jobs = args.jobs or len(os.sched_getaffinity(0))
    if jobs == 1 or files < _WORTH_WORKERS:
        yield lambda names: (judge_files(bench, batch, as_json=args.json) for batch in _batches(names))
        return
    pool: Executor
    if HAVE_AWSCRT:
        context = multiprocessing.get_context("forkserver")
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(args, *times))
        task: Callable[[list[str]], list[Line]] = _in_worker
    else:
        pool = ThreadPoolExecutor(jobs)

        def task(names: list[str]) -> list[Line]:
            return judge_files(bench, names, as_json=args.json)

    try:
        yield lambda names: _ordered(pool, task, names, jobs * _AHEAD)
    finally:
        pool.shutdown(cancel_futures=True)


def _ordered(
    pool: Executor, task: Callable[[list[str]], list[Line]], names: list[str], ahead: int
) -> Iterator[list[Line]]:
    """Results in the order of ``names``, never more than ``ahead`` batches unread."""
    batches = _batches(names)
    waiting = deque(pool.submit(task, batch) for batch in islice(batches, ahead))
    while waiting:
        done = waiting.popleft().result()
        waiting.extend(pool.submit(task, batch) for batch in islice(batches, 1))
        yield done


_worker: list[tuple[Bench, bool]] = []
"""The bench of a worker process."""


def _start_worker(args: argparse.Namespace, now: datetime, today: datetime) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123  # the parent has warned already
        stderr, sys.stderr = sys.stderr, nowhere
        _worker.append((bench_of(args, now, today), args.json))
        sys.stderr = stderr


def _in_worker(names: list[str]) -> list[Line]:
    bench, as_json = _worker[0]
    return judge_files(bench, names, as_json=as_json)


def judge_files(bench: Bench, names: list[str], *, as_json: bool) -> list[Line]:
    """Read and judge each file; one line each, JSON or text."""
    return [_line(_result(bench, name), as_json=as_json) for name in names]


def _result(bench: Bench, name: str) -> Result:
    try:
        data = _read(name)
    except FileUnreadable as exc:
        return Result(name, outcome=UNAVAILABLE, code=exc.code, message=exc.message)
    return bench.judge(name, data)


def _line(result: Result, *, as_json: bool) -> Line:
    if as_json:
        return Line(result.outcome, json.dumps(result.as_json(), separators=(",", ":")) + "\n")
    return Line(result.outcome, printable(f"{result.outcome:<11} {result.file}: {result.message}") + "\n")


def _read(name: str) -> bytes:
    """A regular file in two system calls more than open and close; evidence files are many and small."""
    try:
        number = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as exc:
        raise FileUnreadable(f"{name}: {exc.strerror}") from None
    try:
        size = os.fstat(number).st_size
        if size > _MAX_FILE:
            raise FileUnreadable(f"{name}: larger than {_MAX_FILE} bytes")
        data = os.read(number, size + 1)
    except OSError as exc:
        raise FileUnreadable(f"{name}: {exc.strerror}") from None
    finally:
        os.close(number)
    if len(data) != size:
        raise FileUnreadable(f"{name}: changed while it was read")
    return data


def _files(folder: Path) -> list[str]:
    """Regular files below ``folder``, by name; links are not followed. Raises :class:`FileUnreadable`."""
    found: list[str] = []
    for where, folders, names in os.walk(folder, onerror=_raise):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(where, name)  # a hundred thousand Path objects take a second
            if stat.S_ISREG(os.lstat(path).st_mode):
                found.append(path)
    if not found:
        raise FileUnreadable(f"{folder}: holds no files")
    return found


def _raise(error: OSError) -> None:
    raise FileUnreadable(f"{error.filename}: {error.strerror}")


def _batches(names: list[str]) -> Iterator[list[str]]:
    return (names[start : start + _BATCH] for start in range(0, len(names), _BATCH))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Counter[str]], None]]:
    """A line on standard error, where that is a terminal; gone at the end."""
    if not sys.stderr.isatty():
        yield lambda counted: None
        return
    start = drawn = time.monotonic()

    def show(counted: Counter[str]) -> None:
        nonlocal drawn
        now = time.monotonic()
        if now - drawn < _REDRAW_SECONDS:
            return
        drawn, done = now, counted.total()
        bar = ("#" * (30 * done // total)).ljust(30, ".")
        bad = done - counted[GENUINE]
        sys.stderr.write(f"{_MOVE_ON}[{bar}] {done} of {total}, {bad} not genuine, {done / (now - start):.0f}/s")
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write(_MOVE_ON)
