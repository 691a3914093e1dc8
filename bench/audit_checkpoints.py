"""A checkpoint for each decision: what it costs to sign, to keep and to prove one by one, and to check such proofs.

The rows of ``audit_proofs`` are of many proofs under one checkpoint. Here each stands under a checkpoint of its own,
made right after its decision: signed, remembered on the disk, proven. Bare is one P-384 and one Ed25519 verification
for each proof; what making one costs is compared with the disk's own flush.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attest.audit import note as notes
from attest.audit.note import Note
from attest.broker.log import checkpoint
from attest.broker.proof_file import checked_checkpoint, parse_proof_file
from attest.broker.proof_file_make import make_proof_file
from bench.audit_proofs import ENGINES, PROOFS, Work, bare, least, make_log, row, whole


def run() -> list[dict[str, Any]]:
    """The rows of this module."""
    with tempfile.TemporaryDirectory(dir=Path(".cache")) as name:
        folder = Path(name)
        world, signer = make_log(folder)
        files, spent, waits = [], [], []
        for _ in range(PROOFS):
            world.client().handshake()
            number = world.records("decision")[-1]["number"]
            busy, start = time.process_time(), time.perf_counter()
            note = checkpoint(world.database, signer, world.now)
            files.append(make_proof_file(world.database, number, note).encode())
            spent.append(time.process_time() - busy)
            waits.append(time.perf_counter() - start)
        signed = [parse_proof_file(data).entry.proof.note for data in files]
        key = Ed25519PublicKey.from_public_bytes(signer.key.verifier.key)
        works = {
            "whole": _with_own(whole(files, signer)),
            "notes": _signatures(key, signed),
            **{engine: bare(files, load) for engine, load in ENGINES.items()},
        }
        found = {kind: seconds / PROOFS for kind, seconds in least(works).items()}
        checked = [
            row(f"proofs with a checkpoint each checked/s, one core; bare by {engine}", found["whole"],
                found[engine] + found["notes"])
            for engine in ENGINES
        ]  # fmt: skip
        return [_made_row(median(waits), median(spent), _flush(folder)), *checked]


def _made_row(wait: float, spent: float, flush: float) -> dict[str, Any]:
    return {
        "name": "checkpoints with the proof of a decision made/s, one after the other", "ours": round(1 / wait),
        "peer": round(1 / flush), "ratio": round(flush / wait, 3), "target": "none named", "met": True,
        "detail": f"{wait * 1000:.2f} ms each, {spent * 1000:.2f} of it processor time; the peer is one flush, "
        f"{flush * 1000:.2f} ms; load {os.getloadavg()[0]:.1f}",
    }  # fmt: skip


def _with_own(work: Work) -> Work:
    """``work`` with nothing remembered of checkpoints."""

    def check() -> Iterator[object]:
        checked_checkpoint.cache_clear()
        notes._verify.cache_clear()
        return work()

    return check


def _signatures(key: Ed25519PublicKey, signed: list[Note]) -> Work:
    def verify() -> Iterator[object]:
        for note in signed:
            key.verify(note.signatures[0].value, note.text.encode())
            yield None

    return verify


def _flush(folder: Path) -> float:
    """Seconds for a write of a page and its flush, the median of many."""
    found = []
    with (folder / "flush").open("wb", buffering=0) as file:
        for _ in range(PROOFS):
            start = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            found.append(time.perf_counter() - start)
    return median(found)
