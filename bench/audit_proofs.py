"""Checking proof files of decisions, against the bare signature verifications that they cannot do without.

Bare is one ECDSA P-384 verification for each report, by the same reports and keys, and one Ed25519 verification for
each checkpoint that occurs: many proofs stand under one. It is counted with both libraries, ``cryptography`` and
AWS-LC; ours uses the faster one where it is installed. Rates are of processor time, in rounds that take turns, because
other work on a machine slows down all of them.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attest.audit.note import verify_note
from attest.broker.log import LogSigner, checkpoint, prove
from attest.broker.presented import Memory
from attest.broker.proof_file import ProofFile, check_proof_file, make_proof_file, parse_proof_file
from attest.endorsement.p384 import HAVE_AWSCRT, KeyLoader, load_with_awscrt, load_with_cryptography
from attest.evidence.amd_certificate import AmdCertificate
from attest.evidence.snp_report import REPORT_SIZE, SIGNED_SIZE, SnpReport
from attest.keys.log_key import load_log_key, make_log_key
from tests.fakes.service_world import PKI, ServiceWorld

PROOFS, ROUNDS, FILES = 100, 15, 2000


def run() -> list[dict[str, Any]]:
    """The rows of this module."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files, signer = _files(folder)
        whole = _whole(files, signer)
        engines = {"cryptography": load_with_cryptography, **({"AWS-LC": load_with_awscrt} if HAVE_AWSCRT else {})}
        bare = {engine: _bare(files, signer, load) for engine, load in engines.items()}
        ours, *peers = _rates([whole, *bare.values()])
        rows = [
            {
                "name": f"proofs of decisions checked/s, one core; bare by {engine}", "ours": round(ours),
                "peer": round(peer), "ratio": round(ours / peer, 3), "target": "85 % of bare",
                "met": ours >= 0.85 * peer,
                "detail": f"{PROOFS} decisions under one checkpoint, {len(files[0])} bytes a file; ours by "
                + ("AWS-LC" if HAVE_AWSCRT else "cryptography"),
            }
            for engine, peer in zip(bare, peers, strict=True)
        ]  # fmt: skip
        return [*rows, _processes_row(folder, files, signer.key.verifier.vkey)]


def _files(folder: Path) -> tuple[list[bytes], LogSigner]:
    world = ServiceWorld(folder / "service")
    for _ in range(PROOFS):
        world.client().handshake()
    make_log_key(folder / "log.key", "bench/log")
    signer = LogSigner(load_log_key(folder / "log.key", "bench/log"), folder / "log.seen")
    note = checkpoint(world.database, signer, world.now)
    numbers = [entry["number"] for entry in world.records("decision")]
    return [
        make_proof_file(world.database, number, prove(world.database, number, note)).encode() for number in numbers
    ], signer


def _whole(files: Sequence[bytes], signer: LogSigner) -> Callable[[], None]:
    memory, log = Memory(), signer.key.verifier

    def check() -> None:
        for data in files:
            check_proof_file(parse_proof_file(data, memory), log, memory=memory)

    return check


def _bare(files: Sequence[bytes], signer: LogSigner, load: KeyLoader) -> Callable[[], None]:
    key = load(AmdCertificate.parse(PKI.leaf_der).spki)
    proofs = [parse_proof_file(data) for data in files]
    signed = [_signed(file) for file in proofs]
    notes = {file.proof.note for file in proofs}
    verify_again = _not_remembered(signer)

    def verify() -> None:
        for signature, message in signed:
            key.verify(signature, hashlib.sha384(message).digest())
        for note in notes:
            verify_again(note)

    return verify


def _not_remembered(signer: LogSigner) -> Callable[[Any], None]:
    """Verifying a note with nothing remembered of it."""
    from attest.audit import note as notes

    def verify(note: Any) -> None:
        notes._verify.cache_clear()
        verify_note(note, [signer.key.verifier])

    return verify


def _signed(file: ProofFile) -> tuple[bytes, bytes]:
    """The report's signature (DER) and the bytes it covers."""
    report = SnpReport.parse(next(data for data in file.blobs.values() if len(data) == REPORT_SIZE))
    numbers = (int.from_bytes(report.signature_r, "little"), int.from_bytes(report.signature_s, "little"))
    return encode_dss_signature(*numbers), report.raw[:SIGNED_SIZE]


def _rates(works: Sequence[Callable[[], None]]) -> list[float]:
    """Proofs a second of processor time, the median of rounds in which each had its turn."""
    spent: list[list[float]] = [[] for _ in works]
    for work in works:
        work()
    for _ in range(ROUNDS):
        for times, work in zip(spent, works, strict=True):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
    return [PROOFS / median(times) for times in spent]


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
