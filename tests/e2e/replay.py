"""A request that was good once is sent again, in the three ways an eavesdropper or a host could try."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attest.attester.emulated import converse
from attest.attester.evidence_json import snp_evidence
from tests.e2e.world import StepFailed
from tests.fakes.kbs_client import KbsClient, KbsError, TeeKey, TlsTransport


@contextmanager
def chip(state: Path, firmware: Path, hash_table: Path, *, vcpus: int, cpu_model: str) -> Iterator[socket.socket]:
    """The emulated chip with the approved VM in it; yields a connection such as the guest's port is."""
    path = state.parent / "replay.sock"
    process = subprocess.Popen(
        [
            sys.executable, "-m", "attest.emulator", "--state", str(state), "--socket", str(path),
            "--firmware", str(firmware), "--hash-table", str(hash_table), "--vcpus", str(vcpus),
            "--cpu-model", cpu_model,
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        if process.stdout is None or not process.stdout.readline().startswith("ready "):
            raise StepFailed("the emulated chip did not start")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as port:
            port.connect(str(path))
            yield port
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait(10)


def replay_refusals(port: socket.socket, service_port: int, ca: Path) -> dict[str, str]:
    """Attest once, well; then replay. Returns what the service said to each attempt; raises if one was accepted."""

    def attester(report_data: bytes) -> dict[str, Any]:
        return snp_evidence(converse(port.fileno(), report_data))

    def client() -> KbsClient:
        context = ssl.create_default_context(cafile=str(ca))
        return KbsClient(TlsTransport("127.0.0.1", service_port, context), attester)

    good = client()
    good.auth()
    body = json.loads(json.dumps(good.evidence()))
    good.attest(body)

    other = client()
    other.auth()
    thief = client()
    thief.auth()
    thief.key = TeeKey()
    stolen = thief.evidence() | {"tee-evidence": body["tee-evidence"]}
    return {
        "the same request again": _refused(good, body),
        "the same request in a new session": _refused(other, body),
        "its evidence under a new nonce and another key": _refused(thief, stolen),
    }


def _refused(client: KbsClient, body: dict[str, Any]) -> str:
    try:
        client.attest(body)
    except KbsError as exc:
        return str(exc)
    raise StepFailed("a replayed request was accepted")
