"""Checking proofs of decisions, against the bare signature verifications that they cannot do without.

Bare is one ECDSA P-384 verification for each report, by the same reports and keys; the one Ed25519 signature under
which all of these proofs stand is left out. It is counted with both libraries, ``cryptography`` and AWS-LC; ours uses
the faster one where it is installed. Figures are of processor time. In each round every proof is checked, and of all
rounds the least time of a proof counts, because other work on a machine can only add to it.
"""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attest.audit.checkpoint import checkpoint_of
from attest.broker.log import LogSigner, checkpoint
from attest.broker.presented import Memory
from attest.broker.proof_bundle import Bundle, Trust
from attest.broker.proof_bundle_make import write_bundle
from attest.broker.proof_file import ProofFile, check_proof_file, parse_proof_file
from attest.broker.proof_file_make import make_proof_file
from attest.endorsement.p384 import HAVE_AWSCRT, KeyLoader, load_with_awscrt, load_with_cryptography
from attest.evidence.amd_certificate import AmdCertificate
from attest.evidence.snp_report import REPORT_SIZE, SIGNED_SIZE, SnpReport
from attest.keys.log_key import load_log_key, make_log_key
from tests.fakes.service_world import PKI, ServiceWorld

PROOFS, ROUNDS, FILES = 100, 15, 2000
ENGINES: Mapping[str, KeyLoader] = {
    "cryptography": load_with_cryptography,
    **({"AWS-LC": load_with_awscrt} if HAVE_AWSCRT else {}),
}

Work = Callable[[], Iterator[object]]
"""Does a part of the work for each value it yields."""


def run() -> list[dict[str, Any]]:
    """The rows of this module."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world, signer = make_log(folder)
        files = _files(world, signer)
        works = {
            "a file each": whole(files, signer),
            "one bundle": _bundle(world, signer, folder / "bundle.jsonl"),
            **{engine: bare(files, load) for engine, load in ENGINES.items()},
        }
        found = {kind: seconds / PROOFS for kind, seconds in least(works).items()}
        rows = [
            row(f"proofs of decisions checked/s, one core, {form}; bare by {engine}", found[form], found[engine])
            for form in ("a file each", "one bundle")
            for engine in ENGINES
        ]
        return [*rows, _processes_row(folder, files, signer.key.verifier.vkey)]


def row(name: str, ours: float, peer: float) -> dict[str, Any]:
    """A row of the table from seconds a proof."""
    return {
        "name": name, "ours": round(1 / ours), "peer": round(1 / peer), "ratio": round(peer / ours, 3),
        "target": "85 % of bare", "met": ours <= peer / 0.85,
        "detail": f"{ours * 1e6:.0f} us of processor time against {peer * 1e6:.0f}; {PROOFS} decisions; ours by "
        + ("AWS-LC" if HAVE_AWSCRT else "cryptography"),
    }  # fmt: skip


def make_log(folder: Path) -> tuple[ServiceWorld, LogSigner]:
    """A service that made :data:`PROOFS` decisions, and who signs its log."""
    world = ServiceWorld(folder / "service")
    for _ in range(PROOFS):
        world.client().handshake()
    make_log_key(folder / "log.key", "bench/log")
    return world, LogSigner(load_log_key(folder / "log.key", "bench/log"), folder / "log.seen")


def _files(world: ServiceWorld, signer: LogSigner) -> list[bytes]:
    note = checkpoint(world.database, signer, world.now)
    numbers = [entry["number"] for entry in world.records("decision")]
    return [make_proof_file(world.database, number, note).encode() for number in numbers]


def whole(files: Sequence[bytes], signer: LogSigner) -> Work:
    """Checking proof files one after the other."""
    memory, log = Memory(), signer.key.verifier

    def check() -> Iterator[object]:
        for data in files:
            yield check_proof_file(parse_proof_file(data, memory), log, memory=memory)

    return check


def _bundle(world: ServiceWorld, signer: LogSigner, path: Path) -> Work:
    """Checking the records of one file, also those that are no decisions."""
    note = checkpoint(world.database, signer, world.now)
    with path.open("wb") as out:
        write_bundle(world.database, note, range(1, checkpoint_of(note).size + 1), out)
    bundle, memory, trust = Bundle(path), Memory(), Trust(signer.key.verifier)

    def check() -> Iterator[object]:
        for block in bundle.blocks:
            for one in bundle.check(block, trust, memory):
                if one.refused is not None:
                    raise ValueError(one.refused)
                yield one

    return check


def bare(files: Sequence[bytes], load: KeyLoader) -> Work:
    """The signatures of the reports alone."""
    key = load(AmdCertificate.parse(PKI.leaf_der).spki)
    signed = [_signed(parse_proof_file(data)) for data in files]

    def verify() -> Iterator[object]:
        for signature, message in signed:
            key.verify(signature, hashlib.sha384(message).digest())
            yield None

    return verify


def _signed(file: ProofFile) -> tuple[bytes, bytes]:
    """The report's signature (DER) and the bytes it covers."""
    report = SnpReport.parse(next(data for data in file.blobs.values() if len(data) == REPORT_SIZE))
    numbers = (int.from_bytes(report.signature_r, "little"), int.from_bytes(report.signature_s, "little"))
    return encode_dss_signature(*numbers), report.raw[:SIGNED_SIZE]


def least(works: Mapping[str, Work], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of processor time: of each part the least in rounds in which all works had their turn, summed up."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, work in works.items():
            times = list(_times(work()))
            found[name] = [min(pair) for pair in zip(times, found.get(name, [math.inf] * len(times)), strict=True)]
    return {name: sum(times) for name, times in found.items()}


def _times(parts: Iterator[object]) -> Iterator[float]:
    while True:
        start = time.process_time()
        try:
            next(parts)
        except StopIteration:
            return
        yield time.process_time() - start


def _processes_row(folder: Path, files: Sequence[bytes], key: str) -> dict[str, Any]:
    """The command over many files, by one process and by two; the time with two files is its start."""
    many = folder / "proofs"
    many.mkdir()
    for index in range(FILES):
        (many / f"{index:05}.json").write_bytes(files[index % len(files)])
    few = [many / "00000.json", many / "00001.json"]
    start = [_command(key, few, count) for count in (1, 2)]
    whole = [_command(key, [many], count) for count in (1, 2)]
    rates, spent = (
        [FILES / (after[kind] - before[kind]) for after, before in zip(whole, start, strict=True)] for kind in (0, 1)
    )
    return {
        "name": "proofs/s by attest audit verify, two processes to one", "ours": round(rates[1]),
        "peer": round(rates[0]), "ratio": round(rates[1] / rates[0], 2), "target": "2 on idle cores",
        "met": rates[1] >= 1.8 * rates[0],
        "detail": f"{FILES} files, start left out; processor time of a proof {1e6 / spent[0]:.0f} µs by one process, "
        f"{1e6 / spent[1]:.0f} by two and their parent; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
    }  # fmt: skip


def _command(key: str, paths: Sequence[Path], processes: int) -> tuple[float, float]:
    """Seconds by the clock, and of processor time."""
    command = [sys.executable, "-m", "attest", "audit", "verify", *map(str, paths), "--log-key", key]
    start, before = time.perf_counter(), os.times()
    subprocess.run([*command, "--processes", str(processes)], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system
