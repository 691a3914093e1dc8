"""The real service under load: started as operators do, guests with fresh nonces and keys over TLS, its CPU time."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attest.audit.record import Actor
from attest.broker.operations import By, NewResource, add_reference, put_resource
from attest.evidence.cert_table import ARK, ASK, VCEK, CertEntry
from attest.evidence.snp_json import encode_snp_json
from attest.evidence.snp_report import SnpReport
from attest.keys.master import load_master_keys
from attest.settings import load_settings
from attest.store.engine import Database
from policy.secret import SecretBytes
from tests.fakes.amd_pki import OFFSETS, ec_key, report_body, sign_report
from tests.fakes.kbs_client import KbsClient, KbsError, KeptTransport, TeeKey
from tests.fakes.served import Served
from tests.fakes.service_world import GOOD, PATH, PKI, SECRET, reference

_WITHOUT = (
    "import sys; sys.modules['awscrt'] = None; from attest.cli import main; sys.exit(main(['serve', sys.argv[1]]))"
)
_CERTIFICATES = [CertEntry(VCEK, PKI.leaf_der), CertEntry(ASK, PKI.ask_der), CertEntry(ARK, PKI.ark_der)]
_BODY = report_body(PKI.with_(report={"measurement": GOOD, **dict(PKI.report)}).fields)
_AT = OFFSETS["report_data"][0]


def furnish(folder: Path, *more: str) -> Served:
    """A service with a reference value and a key, not started. ``more`` are options of ``attest init``."""
    served = Served(folder).init(PKI, *more)
    database, by = Database(load_settings(served.config).database), By(Actor("local", "bench"), datetime.now(UTC))
    add_reference(database, reference(), by)
    put_resource(database, load_master_keys(folder / "master.key"), NewResource(PATH, SecretBytes(SECRET)), by)
    database.close()
    return served


def configure(served: Served, **values: int) -> None:
    """Set numbers of ``[server]``, ``[limits]`` by their comments' names."""
    text = served.config.read_text()
    for name, value in values.items():
        lines = [f"{name} = {value}" if line.split(" ")[0] == name else line for line in text.split("\n")]
        text = "\n".join(lines)
    served.config.write_text(text)


def start(served: Served, *, awscrt: bool = True) -> float:
    """Start it, without AWS-LC on demand; seconds until it was ready."""
    begun = time.perf_counter()
    if awscrt:
        served.start()
        return time.perf_counter() - begun
    real = subprocess.Popen

    def without(words: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return real([sys.executable, "-c", _WITHOUT, words[-1]], **options)

    subprocess.Popen = without  # type: ignore[assignment, misc]
    try:
        served.start()
    finally:
        subprocess.Popen = real  # type: ignore[misc]
    return time.perf_counter() - begun


def evidence(report_data: bytes) -> dict[str, Any]:
    """KBS evidence over fresh report data, signed now."""
    return encode_snp_json(SnpReport.parse(report(report_data)), _CERTIFICATES)


def report(report_data: bytes) -> bytes:
    """A report over 64 bytes of report data, signed now."""
    return sign_report(_BODY[:_AT] + report_data + _BODY[_AT + 64 :], ec_key(PKI.leaf.key, PKI.leaf.curve))


def guest(served: Served) -> KbsClient:
    """A guest with a key of its own."""
    return KbsClient(KeptTransport("127.0.0.1", served.port, served.tls()), evidence, TeeKey())


def empty(client: KbsClient) -> None:
    """Three requests that ask for nothing, over one connection of their own: what an exchange is without its work."""
    _afresh(client)
    for _ in range(3):
        client.transport.send("GET", "/healthz", None, {})


def exchange(client: KbsClient) -> bool:
    """Challenge, attestation, one resource over one new connection; false where the service said 503."""
    _afresh(client)
    client.key, client.cookie = TeeKey(), None
    try:
        client.handshake()
        reply = client.get(f"/resource/{PATH}")
    except KbsError as error:
        if error.status != 503:
            raise
        return False
    if reply.status == 200 and client.key.decrypt(reply.json()) != SECRET:
        raise ValueError("another secret")
    return reply.status == 200


def _afresh(client: KbsClient) -> None:
    if not isinstance(client.transport, KeptTransport):
        raise TypeError("a guest of another kind")
    client.transport.close()


@dataclass(frozen=True)
class Processes:
    """Every process of one service."""

    served: Served

    def cpu(self) -> float:
        """Seconds on a processor so far, of all threads that live."""
        return sum(threads_seconds(pid) for pid in self.served.processes())

    def memory(self) -> dict[str, float]:
        """MB of each process by what it alone uses and its share of what it has in common (PSS), and resident (RSS)."""
        found = {"pss": 0.0, "rss": 0.0}
        for pid in self.served.processes():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name = line.partition(":")[0].lower()
                if name in found:
                    found[name] = max(found[name], int(line.split()[1]) / 1024)
        return found


def threads_seconds(process: int) -> float:
    """Seconds on a processor so far, of all its threads that live."""
    return sum(_thread(task) for task in Path(f"/proc/{process}/task").iterdir())


def _thread(task: Path) -> float:
    try:
        return int((task / "schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return 0.0
