"""A whole SNP report to its verdict, beside the verifiers on PyPI and beside one bare P-384 verification.

``ours`` starts from 1184 bytes: parse, find the endorsement, chain by digest, dates, revocation, TCB, chip id,
signature, binding, and every rule of a policy. Peers run in an environment of their own (``.cache/snp-peers``), made at
the first run with pinned versions; one that cannot be installed is skipped with the reason. All figures are CPU seconds
of one core, in interleaved rounds, because machines are shared; ratios are ours divided by the peer's.

The report is the one that the package omne-attest ships, with its real VCEK.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attest.cli.evidence_bulk import judge_files
from attest.cli.evidence_judge import Bench, Expected, Rules
from attest.cli.policy_file import policy_bytes
from attest.collateral.published import published_authorities
from attest.endorsement.amd_cache import ChainCache
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.p384 import HAVE_AWSCRT, KeyLoader, load_with_awscrt, load_with_cryptography
from attest.endorsement.pool import EndorsementSet
from attest.evidence.snp_report import SnpReport
from attest.verifier.snp import SnpVerifier
from bench._snp_peer import PEERS
from bench.verify import bare_verification
from policy.decide import decide
from policy.document import parse_policy

VERSIONS = {"omne-attest": "0.1.0", "dk-tee-attestation": "0.6.5", "cvm-attest": "1.0.0", "sev-attest-tool": "0.2.4"}
ENVIRONMENT = Path(__file__).parent.parent / ".cache" / "snp-peers"
AT = datetime(2026, 11, 23, tzinfo=UTC)
ROUNDS = 7
WINDOW = 0.3
FILES = 1500

Call = Callable[[], object]


def run() -> list[dict[str, Any]]:
    """Rows for the table."""
    installed = [name for name in VERSIONS if _install(name)]
    folder = next(ENVIRONMENT.glob("lib/python*/site-packages/omne_attest/vectors"), None)
    if folder is None:
        _say("no omne-attest, and with it no report to compare on")
        return []
    load: KeyLoader = load_with_awscrt if HAVE_AWSCRT else load_with_cryptography
    calls: dict[str, Call] = {
        "cached": _verdict(folder, load),
        "fallback": _verdict(folder, load_with_cryptography),
        "fresh": _fresh(folder, load),
        "new chip": _new_chip(folder, load),
        "bare": _bare(folder, load_with_cryptography),
        "engine": _bare(folder, load),
    }
    with tempfile.TemporaryDirectory() as scratch:
        calls["bulk"] = _bulk(folder, Path(scratch), load)
        seconds = _measure(calls, installed, folder)
    seconds["bulk"] = [value / FILES for value in seconds["bulk"]]
    return _rows(seconds, [name for name in installed if seconds[name]])


def _rows(seconds: dict[str, list[float]], peers: list[str]) -> list[dict[str, Any]]:
    engine = "AWS-LC" if HAVE_AWSCRT else "cryptography"
    best = min(peers, key=lambda name: statistics.median(seconds[name]), default=None)
    rows = [
        _row(
            f"bare P-384 of {engine} / of cryptography: no verdict can be faster", seconds, ("engine", "bare"), 1 / 2.2
        ),
        _row(f"SNP bytes to verdict ({engine}) / bare P-384 of cryptography", seconds, ("cached", "bare"), 1 / 2.2),
        _row("the same with cryptography", seconds, ("fallback", "bare"), 1.15),
        _row("evidence verify DIR, per file, one worker / verdict", seconds, ("bulk", "cached"), 1 / 0.9),
    ]
    for name in peers:
        label = f"SNP bytes to verdict ({engine}) / {name} {VERSIONS[name]}"
        rows.append(_row(label, seconds, ("cached", name), 1 / 4))
    if best is not None:
        peer = f"{best} {VERSIONS[best]}"
        rows.append(_row(f"SNP, first report of a chip / {peer}", seconds, ("new chip", best), 1 / 1.05))
        rows.append(_row(f"SNP, first report of a process / {peer}", seconds, ("fresh", best), 1 / 1.05))
    return rows


def _row(name: str, seconds: dict[str, list[float]], pair: tuple[str, str], target: float) -> dict[str, Any]:
    mine, theirs = (statistics.median(seconds[key]) for key in pair)
    ratio = statistics.median(a / b for a, b in zip(seconds[pair[0]], seconds[pair[1]], strict=True))
    return {
        "name": name,
        "ours": f"{mine * 1e6:.0f} us",
        "peer": f"{theirs * 1e6:.0f} us",
        "ratio": f"{ratio:.3f}",
        "target": f"<= {target:.3f}",
        "met": ratio <= target,
        "detail": f"{1 / mine:.0f} against {1 / theirs:.0f} per CPU-second; {ROUNDS} interleaved rounds, medians; "
        f"bare P-384 of the engine alone: {statistics.median(seconds['engine']) * 1e6:.0f} us",
    }


def _measure(calls: dict[str, Call], peers: list[str], folder: Path) -> dict[str, list[float]]:
    """Rounds of one window each; a peer that fails once is dropped, and its error printed."""
    found: dict[str, list[float]] = {name: [] for name in (*calls, *peers)}
    failed: set[str] = set()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            found[name].append(_seconds(call))
        for name in peers:
            spent = None if name in failed else _peer(name, folder)
            if spent is None:
                failed.add(name)
                found[name].clear()
            else:
                found[name].append(spent)
    return found


def _seconds(call: Call) -> float:
    call()
    count, start = 0, time.process_time()
    while (spent := time.process_time() - start) < WINDOW:
        call()
        count += 1
    return spent / count


def _peer(name: str, folder: Path) -> float | None:
    script = str(Path(__file__).parent / "_snp_peer.py")
    python = str(ENVIRONMENT / "bin" / "python")
    done = subprocess.run([python, script, name, str(folder), str(WINDOW)], capture_output=True, text=True, check=False)
    if done.returncode:
        _say(f"{name}: {done.stderr.strip().splitlines()[-1][:200]}")
        return None
    return float(json.loads(done.stdout)["seconds"])


def _install(name: str) -> bool:
    """Into the environment, with its pinned version; false with a printed reason where that fails."""
    if name not in PEERS:
        return False
    marker = ENVIRONMENT / f".{name}-{VERSIONS[name]}"
    if marker.exists():
        return True
    if not (ENVIRONMENT / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True, capture_output=True)
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, f"{name}=={VERSIONS[name]}"], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["pip failed"]
        _say(f"{name} {VERSIONS[name]} skipped: {lines[-1][:200]}")
        return False
    marker.touch()
    return True


def _say(text: str) -> None:
    sys.stderr.write(f"snp_peers: {text}\n")


def _certificates(folder: Path) -> EndorsementSet:
    names = ("kds_vcek.der", "milan_ask.der", "milan_ark.der")
    return EndorsementSet.from_der([(folder / name).read_bytes() for name in names])


def _verdict(folder: Path, load: KeyLoader) -> Call:
    raw, pool = (folder / "attestation.bin").read_bytes(), _certificates(folder)
    verifier, document = (
        SnpVerifier(TrustAnchors.amd(), ChainCache(load_key=load)),
        parse_policy(policy_bytes("strict")),
    )
    expected = raw[0x50:0x90]

    def once() -> object:
        claims = verifier.verify(SnpReport.parse(raw), pool, now=AT, expected_report_data=expected)
        return decide(claims, document, (), now=AT)

    return once


def _new_chip(folder: Path, load: KeyLoader) -> Call:
    """A VCEK never seen: parsed, its link verified. AMD's authorities are known since the start."""
    raw, document = (folder / "attestation.bin").read_bytes(), parse_policy(policy_bytes("strict"))
    vcek, known = (folder / "kds_vcek.der").read_bytes(), published_authorities()
    cache = ChainCache(load_key=load)

    def once() -> object:
        pool = EndorsementSet.from_der([vcek], with_evidence=True) + known
        cache._chains.clear()
        cache._walks.clear()
        verifier = SnpVerifier(TrustAnchors.amd(), cache)
        claims = verifier.verify(SnpReport.parse(raw), pool, now=AT, expected_report_data=raw[0x50:0x90])
        return decide(claims, document, (), now=AT)

    return once


def _fresh(folder: Path, load: KeyLoader) -> Call:
    """As at the first report of a process: certificates parsed, three chain links verified."""
    raw, document = (folder / "attestation.bin").read_bytes(), parse_policy(policy_bytes("strict"))
    names = ("kds_vcek.der", "milan_ask.der", "milan_ark.der")
    der = [(folder / name).read_bytes() for name in names]

    def once() -> object:
        verifier = SnpVerifier(TrustAnchors.amd(), ChainCache(load_key=load))
        pool = EndorsementSet.from_der(der)
        claims = verifier.verify(SnpReport.parse(raw), pool, now=AT, expected_report_data=raw[0x50:0x90])
        return decide(claims, document, (), now=AT)

    return once


def _bare(folder: Path, load: KeyLoader) -> Call:
    return bare_verification((folder / "kds_vcek.der").read_bytes(), (folder / "attestation.bin").read_bytes(), load)


def _bulk(folder: Path, scratch: Path, load: KeyLoader) -> Call:
    """All files of a folder once: read, judge, one line of text each."""
    names = [str(scratch / f"{number:05}.bin") for number in range(FILES)]
    for name in names:
        Path(name).write_bytes((folder / "attestation.bin").read_bytes())
    rules = Rules(parse_policy(policy_bytes("strict")), (), binding=False)
    verifier = SnpVerifier(TrustAnchors.amd(), ChainCache(load_key=load))
    bench = Bench(_certificates(folder), verifier, rules, Expected(), AT)
    return lambda: judge_files(bench, names, as_json=False)
