"""A folder of reports through the program: ``attest evidence verify DIR``, its rate, its progress and its memory.

Every file is another report, signed by an emulated chip; ``CVM_BENCH_FILES=100000`` makes them a hundred thousand
(10 000 otherwise). The program runs as a process of its own, with standard error on a terminal, so that it draws its
progress. Its cost of a file is CPU time, walking the folder, reading and writing included; starting, which a run of
1000 files shows, is deducted, and the detail says what it is with it. The peer is the same verdict in a loop over a
report in memory, in CPU time of this process, before and after; the median of as many rounds as make 30 000 files.
"""

from __future__ import annotations

import os
import pty
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attest.cli.policy_file import policy_bytes
from attest.emulator.chip import Chip, LaunchContext
from attest.emulator.pki import ChipKeys, make_chip, make_crl
from attest.endorsement.amd_cache import ChainCache
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.p384 import HAVE_AWSCRT, KeyLoader, load_with_awscrt, load_with_cryptography
from attest.endorsement.pool import EndorsementSet
from attest.evidence.chip_port import ReportRequest
from attest.evidence.snp_report import SnpReport
from attest.verifier.snp import SnpVerifier
from bench.verify import _seconds
from policy.decide import decide
from policy.document import parse_policy
from policy.vocab import LaunchDigest

FILES = int(os.environ.get("CVM_BENCH_FILES", "10000"))
PER_FOLDER = 1000
SMALL = 1000
ROUNDS = max(1, 30_000 // FILES)
MEMORY = Path("/dev/shm")
TARGET_RATE, TARGET_GROWTH = 1 / 0.9, 24.0


class Run(NamedTuple):
    """One run of the program. CPU in seconds, memory in MB: the most that one of its processes had resident."""

    cpu: float
    wall: float
    memory: float
    drawn: int


class Round(NamedTuple):
    """A run, its CPU seconds per file without starting, and those of one verdict in a loop around the same time."""

    many: Run
    each: float
    single: float


def run() -> list[dict[str, Any]]:
    """Rows for the table."""
    keys = make_chip(datetime.now(UTC))
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        folder = Path(scratch)
        _collateral(folder / "collateral", keys)
        sample = _reports(folder / "many", keys, FILES)
        _reports(folder / "few", keys, SMALL)
        few = _verify(folder, "few", SMALL, 1)
        rounds = [_round(folder, few, keys, sample) for _ in range(ROUNDS)]
        workers = len(os.sched_getaffinity(0))
        spread = _verify(folder, "many", FILES, workers)
    one = min((each.many for each in rounds), key=lambda many: many.wall)
    return [_rate(rounds, one), _workers(one, spread, workers), _memory(few, one)]


def _round(folder: Path, few: Run, keys: ChipKeys, sample: bytes) -> Round:
    singles = _single(keys, sample)
    many = _verify(folder, "many", FILES, 1)
    single = statistics.median(singles + _single(keys, sample))
    return Round(many, (many.cpu - few.cpu) / (FILES - SMALL), single)


def _rate(rounds: list[Round], one: Run) -> dict[str, Any]:
    each, single = (statistics.median(values) for values in ([r.each for r in rounds], [r.single for r in rounds]))
    ratio = statistics.median(r.each / r.single for r in rounds)
    return {
        "name": f"attest evidence verify DIR, {FILES} files, one worker / verdict in a loop",
        "ours": f"{each * 1e6:.0f} us",
        "peer": f"{single * 1e6:.0f} us",
        "ratio": f"{ratio:.3f}",
        "target": f"<= {TARGET_RATE:.3f}",
        "met": ratio <= TARGET_RATE,
        "detail": f"{1 / each:.0f} files per CPU-second, {FILES / one.cpu:.0f} with starting; {one.wall:.1f} s, "
        f"progress drawn {one.drawn} times",
    }


def _workers(one: Run, spread: Run, workers: int) -> dict[str, Any]:
    gain = one.wall / spread.wall
    return {
        "name": f"the same, {workers} workers / one, by the clock",
        "ours": f"{spread.wall:.1f} s",
        "peer": f"{one.wall:.1f} s",
        "ratio": f"{gain:.2f}x",
        "target": f">= {0.9 * workers:.1f}x",
        "met": gain >= 0.9 * workers,
        "detail": f"{FILES / spread.wall:.0f} files per second; says little where other programs run",
    }


def _memory(few: Run, many: Run) -> dict[str, Any]:
    growth = many.memory - few.memory
    return {
        "name": f"peak memory of {FILES} files / of {SMALL}",
        "ours": f"{many.memory:.1f} MB",
        "peer": f"{few.memory:.1f} MB",
        "ratio": f"{many.memory / few.memory:.2f}",
        "target": f"<= +{TARGET_GROWTH:.0f} MB",
        "met": growth <= TARGET_GROWTH,
        "detail": "maximum resident set of the process (wait4); what grows is the list of names",
    }


def _single(keys: ChipKeys, raw: bytes) -> list[float]:
    """CPU seconds from bytes to a policy's decision, chain remembered; windows."""
    load: KeyLoader = load_with_awscrt if HAVE_AWSCRT else load_with_cryptography
    now = datetime.now(UTC)
    crl = make_crl(keys, now).public_bytes(Encoding.DER)
    pool = EndorsementSet.from_der([_der(item) for item in (keys.vcek, keys.ask, keys.ark)], [crl])
    verifier = SnpVerifier(TrustAnchors.amd().with_test_root(_der(keys.ark)), ChainCache(load_key=load))
    document = parse_policy(policy_bytes("strict"))

    def once() -> object:
        claims = verifier.verify(SnpReport.parse(raw), pool, now=now, expected_report_data=None)
        return decide(claims, document, (), now=now)

    return [_seconds(once) for _ in range(7)]


def _verify(folder: Path, which: str, files: int, jobs: int) -> Run:
    """The program over ``folder/which``. Raises ValueError where one file is not genuine."""
    argv = [sys.executable, "-m", "attest", "evidence", "verify", str(folder / which), "--jobs", str(jobs)]
    argv += ["--root", str(folder / "collateral" / "ark.der"), "--collateral", str(folder / "collateral")]
    ours, theirs = pty.openpty()
    started, lines = time.monotonic(), folder / "lines"
    with lines.open("wb") as out:
        program = subprocess.Popen(argv, stdout=out, stderr=theirs)
    os.close(theirs)
    drawn: list[bytes] = []
    reader = threading.Thread(target=_drain, args=(ours, drawn))
    reader.start()
    _, status, usage = os.wait4(program.pid, 0)
    wall = time.monotonic() - started
    reader.join()
    program.returncode = os.waitstatus_to_exitcode(status)
    with lines.open() as found:
        outcomes = Counter(line.split(maxsplit=1)[0] for line in found)
    if outcomes != {"genuine": files} or program.returncode:
        raise ValueError(f"exit {program.returncode}, {dict(outcomes)}: {b''.join(drawn)[-300:]!r}")
    return Run(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024, b"".join(drawn).count(b"not genuine, "))


def _drain(terminal: int, into: list[bytes]) -> None:
    """Everything written to the terminal, until its other side is closed (Linux says so with EIO)."""
    try:
        while data := os.read(terminal, 1 << 16):
            into.append(data)
    except OSError:
        return
    finally:
        os.close(terminal)


def _collateral(folder: Path, keys: ChipKeys) -> None:
    folder.mkdir()
    for name, certificate in (("vcek", keys.vcek), ("ask", keys.ask), ("ark", keys.ark)):
        (folder / f"{name}.der").write_bytes(_der(certificate))
    (folder / "crl.der").write_bytes(make_crl(keys, datetime.now(UTC)).public_bytes(Encoding.DER))


def _reports(folder: Path, keys: ChipKeys, count: int) -> bytes:
    """``count`` reports below ``folder``, each over a number of its own; the last one's bytes."""
    chip = Chip(keys, LaunchContext(LaunchDigest(bytes(48)), 0x30000, bytes(32), bytes(32)))
    raw = b""
    for number in range(count):
        below = folder / f"{number // PER_FOLDER:03}"
        if number % PER_FOLDER == 0:
            below.mkdir(parents=True)
        raw = chip.report(ReportRequest(number.to_bytes(64, "little"), 0))
        (below / f"{number:06}.bin").write_bytes(raw)
    return raw


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
