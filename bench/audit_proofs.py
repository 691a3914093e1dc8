"""Checking proof files of decisions on one core, against the bare signature verifications in them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA384

from attest.audit.note import verify_note
from attest.broker.log import LogSigner, checkpoint, prove
from attest.broker.presented import Memory
from attest.broker.proof_file import check_proof_file, make_proof_file, parse_proof_file
from attest.keys.log_key import load_log_key, make_log_key
from tests.fakes.amd_pki import ec_key
from tests.fakes.service_world import ServiceWorld

PROOFS, ROUNDS = 20, 10


def run() -> list[dict[str, Any]]:
    """The rows of this module."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files, signer = _files(folder)
        memory = Memory()

        def whole() -> None:
            for data in files:
                check_proof_file(parse_proof_file(data), signer.key.verifier, memory=memory)

        note = parse_proof_file(files[0]).proof.note
        public, message = ec_key("leaf", "secp384r1").public_key(), b"m" * 672
        signature = ec_key("leaf", "secp384r1").sign(message, ECDSA(SHA384()))

        def bare() -> None:
            for _ in files:
                public.verify(signature, message, ECDSA(SHA384()))
                verify_note(note, [signer.key.verifier])

        whole()
        ours, peer = _rate(whole), _rate(bare)
    return [
        {
            "name": "proofs of decisions checked/s, one core", "ours": round(ours), "peer": round(peer),
            "ratio": round(ours / peer, 3), "target": "85 % of bare", "met": ours >= 0.85 * peer,
            "detail": f"peer: a P-384 and an Ed25519 verification each; {len(files[0])} bytes a file",
        }
    ]  # fmt: skip


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


def _rate(work: Callable[[], None]) -> float:
    """Files a second, the best of :data:`ROUNDS`."""
    spent = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return PROOFS / min(spent)
