"""One SNP verifier from PyPI, measured in its own environment: ``PYTHON _snp_peer.py NAME FOLDER SECONDS``.

Prints one JSON object: CPU seconds per report, and the peer's own verdict on the report. What a peer would download is
answered from memory. FOLDER holds ``attestation.bin``, ``kds_vcek.der``, ``milan_ask.der``, ``milan_ark.der``.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import sys
import time
import warnings
from base64 import encodebytes
from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[[], Any]


class Answer:
    """What ``requests.get`` returns here."""

    status_code = 200

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.headers: dict[str, str] = {}

    def raise_for_status(self) -> None:
        """Nothing went wrong."""


def from_memory(folder: Path) -> Callable[..., Answer]:
    """A ``requests.get`` that knows AMD's chain and one VCEK."""
    pem = b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + encodebytes(read(folder, name)) + b"-----END CERTIFICATE-----\n"
        for name in ("milan_ask.der", "milan_ark.der")
    )
    vcek = read(folder, "kds_vcek.der")
    return lambda url, **_: Answer(pem if "cert_chain" in url else vcek)


def read(folder: Path, name: str) -> bytes:
    """One file of the folder."""
    return (folder / name).read_bytes()


def omne(folder: Path) -> Call:
    """Whole ``verify()`` with a policy that asks for nothing."""
    snp = importlib.import_module("omne_attest.snp")
    report, vcek, ask, ark = (
        read(folder, name) for name in ("attestation.bin", "kds_vcek.der", "milan_ask.der", "milan_ark.der")
    )
    pin, policy = hashlib.sha256(ark).digest(), snp.Policy(reject_debug=False)
    return lambda: snp.verify(report, vcek, ask, ark, pin, policy)


def dk(folder: Path) -> Call:
    """Whole ``verify_report``."""
    requests: Any = importlib.import_module("requests")
    requests.get = from_memory(folder)
    utils = importlib.import_module("dk_tee_attestation.amd_sev_snp_attestation_report_verification_utils")
    verifier = utils.AmdSevSnpVerifier
    verifier._derive_chip_family = staticmethod(lambda cpu: "Milan")  # a version 2 report does not name its CPU
    report = read(folder, "attestation.bin")
    return lambda: verifier.verify_amd_sev_snp_attestation_report(report, report[0x50:0x90])


def cvm(folder: Path) -> Call:
    """Whole ``verify_evidence``; raises where its status is not PASS."""
    requests: Any = importlib.import_module("requests")
    requests.get = from_memory(folder)
    verify = importlib.import_module("cvm_attest.snp.verify")
    models = importlib.import_module("cvm_attest.models")
    report = read(folder, "attestation.bin")
    evidence = models.AttestationEvidence(tee_type=models.TeeType.SNP, raw_quote=report, report_data=report[0x50:0x90])

    def call() -> None:
        result = verify.verify_evidence(evidence)
        if not (result.report_signature_valid and result.cert_chain_valid):
            raise ValueError(f"{result.status}: {result.errors}")

    return call


def sev_attest_tool(folder: Path) -> Call:
    """Report and VCEK of its own sample; it reads JSON and checks no chain above the VCEK."""
    tool = importlib.import_module("sev_attest_tool")
    return lambda: tool.verify_attestation_report(tool.SAMPLE_ATTESTATION, tool.SAMPLE_VCEK)


PEERS: dict[str, Callable[[Path], Call]] = {
    "omne-attest": omne,
    "dk-tee-attestation": dk,
    "cvm-attest": cvm,
    "sev-attest-tool": sev_attest_tool,
}


def main() -> int:
    """Measure the peer named on the command line."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    name, folder, window = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    call = PEERS[name](folder)
    call()
    count, start = 0, time.process_time()
    while (spent := time.process_time() - start) < window:
        call()
        count += 1
    sys.stdout.write(json.dumps({"seconds": spent / count}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
