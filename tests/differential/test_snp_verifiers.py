"""Our verdicts on real SNP reports beside those of ``omne-attest`` and ``dk-tee-attestation``: every report of the manifest,
every listed mutation of a report and of a certificate, both forged chains, and one bit in every field.

Where a peer answers otherwise the reason is a row of :data:`DIFFERENCES`; a row that explains nothing fails too.
Both peers are asked for as little as they allow: no policy, the report's own REPORT_DATA. ``dk-tee-attestation`` would ask
AMD for certificates; it is given the same files as we are.
"""

from __future__ import annotations

import importlib
import json
from base64 import encodebytes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.pool import EndorsementSet
from attest.evidence.snp_report import SnpReport
from attest.verifier.snp import verify_snp
from policy.errors import CvmError
from tests.unit.attest.verifier.vector_files import clock_for, listed, read

omne_attest = pytest.importorskip("omne_attest.snp", reason="omne-attest is not installed")
pytest.importorskip("dk_tee_attestation", reason="dk-tee-attestation is not installed")
dk = importlib.import_module("dk_tee_attestation.amd_sev_snp_attestation_report_verification_utils")

TCBS = (0x38, 0x180, 0x1E0, 0x1F0)
SIGNATURE, AFTER_S = 0x2A0, 0x2A0 + 144
FIELDS = {
    "guest SVN": 0x04, "policy": 0x08, "family id": 0x10, "image id": 0x20, "VMPL": 0x30, "current TCB": 0x38,
    "platform info": 0x40, "key info": 0x48, "report data": 0x50, "measurement": 0x90, "host data": 0xC0, "id key": 0xE0,
    "author key": 0x110, "report id": 0x140, "report id of the agent": 0x160, "reported TCB": 0x180,
    "reserved part of a TCB": 0x182, "chip id": 0x1A0, "committed TCB": 0x1E0, "current version": 0x1E8,
    "committed version": 0x1EC, "launch TCB": 0x1F0, "last signed byte": 0x29F, "r": 0x2A0, "padding of r": 0x2A0 + 48,
    "s": 0x2A0 + 72, "padding of s": 0x2A0 + 120, "after s": AFTER_S, "last byte": 0x49F,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One question; ``product`` is what the manifest says, ``now`` a time at which the leaf is valid."""

    what: str
    product: str
    report: bytes
    leaf: bytes
    ask: bytes
    ark: bytes
    now: datetime
    forged: bool = False

    @property
    def version(self) -> int:
        return int.from_bytes(self.report[:4], "little")


@dataclass(frozen=True)
class Difference:
    """``peer`` accepts (or refuses) where we do the opposite, and why we do."""

    peer: str
    accepts: bool
    applies: Callable[[Case], bool]
    why: str


def vlek(case: Case) -> bool:
    return case.report[0x48] & 0x1C == 4


def turin(case: Case) -> bool:
    return case.product == "Turin" and not case.forged


def filled(case: Case, start: int, end: int) -> bool:
    """Bytes that are zero in every genuine report are not."""
    return any(case.report[start:end])


def padding(case: Case) -> bool:
    return filled(case, SIGNATURE + 48, SIGNATURE + 72) or filled(case, SIGNATURE + 120, AFTER_S)


def masked(case: Case) -> bool:
    return not any(case.report[0x1A0:0x1E0])


DIFFERENCES = (
    Difference("omne-attest", False, turin, "compares the 64 bytes of CHIP_ID with the 8 bytes that Turin's hwID has"),
    Difference("dk-tee-attestation", False, turin, "the same"),
    Difference("omne-attest", False, vlek, "asks every leaf for hwID; a VLEK names a provider and no chip"),
    Difference(
        "dk-tee-attestation", False, lambda case: masked(case) and case.version == 2,
        "a report of version 2 does not name its product, and its parser wants to guess it from a CHIP_ID that is masked",
    ),
    Difference("omne-attest", True, padding, "takes 48 of the 72 bytes of r and s; the ABI calls all 72 the number"),
    Difference(
        "omne-attest", True, lambda case: filled(case, AFTER_S, 0x4A0),
        "does not look at the reserved end of the signature; we refuse what no signer wrote",
    ),
    Difference("dk-tee-attestation", True, lambda case: filled(case, AFTER_S, 0x4A0), "the same"),
    Difference(
        "dk-tee-attestation", True, lambda case: any(filled(case, at + 2, at + 6) for at in TCBS),
        "checks the signature of what its parser writes again, which drops the reserved bytes of the four TCB versions",
    ),
    Difference(
        "dk-tee-attestation", True, lambda case: case.forged,
        "believes any self-signed root it is sent, and relies on TLS to AMD; we pin the root keys",
    ),
)  # fmt: skip


def ours(case: Case) -> bool:
    try:
        pool = EndorsementSet.from_der([case.leaf, case.ask, case.ark])
        verify_snp(
            SnpReport.parse(case.report), pool, anchors=TrustAnchors.amd(), now=case.now, expected_report_data=None
        )
    except CvmError:
        return False
    return True


def omne(case: Case) -> bool:
    """Its pin is the ARK it is given, unless that is the forged one: then AMD's, as a caller of it would have."""
    pin = bytes(32) if case.forged else sha256(case.ark).digest()
    policy = omne_attest.Policy(max_vmpl=3, reject_debug=False)
    try:
        omne_attest.verify(case.report, case.leaf, case.ask, case.ark, pin, policy)
    except (omne_attest.Fail, ValueError):
        return False
    return True


def dk_tee(case: Case) -> bool:
    pem = b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + encodebytes(der) + b"-----END CERTIFICATE-----\n"
        for der in (case.ask, case.ark)
    )

    def get(url: str, **_: Any) -> Any:
        return SimpleNamespace(content=pem if "cert_chain" in url else case.leaf, raise_for_status=lambda: None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dk, "requests", SimpleNamespace(get=get))
        if case.version == 2:  # a report of version 2 does not name its CPU, and the peer has no other way to learn it
            patch.setattr(dk.AmdSevSnpVerifier, "_derive_chip_family", staticmethod(lambda cpu: case.product))
        try:
            dk.AmdSevSnpVerifier.verify_amd_sev_snp_attestation_report(case.report, case.report[0x50:0x90])
        except (dk.AttestationError, ValueError):
            return False
    return True


PEERS: dict[str, Callable[[Case], bool]] = {"omne-attest": omne, "dk-tee-attestation": dk_tee}


def endorsed(vectors: Path) -> list[dict[str, Any]]:
    """The manifest's reports that come with certificates."""
    return [entry for entry in listed(vectors, "report", "forged_report") if entry["endorsement_files"]]


def reports(vectors: Path) -> Iterator[Case]:
    """Real reports with their certificates, and the two forged chains."""
    for entry in endorsed(vectors):
        names = (entry["file"], *entry["endorsement_files"][:1], *entry["chain_files"])
        report, leaf, ask, ark = read(vectors, names)
        forged = entry["kind"] == "forged_report"
        yield Case(entry["file"], entry["product"], report, leaf, ask, ark, clock_for([leaf]), forged)


def patched(data: bytes, change: dict[str, Any]) -> bytes:
    found = bytearray(data)
    for patch in change.get("patches", []):
        value = bytes.fromhex(patch["hex"])
        found[patch["offset"] : patch["offset"] + len(value)] = value
    return bytes(found[: change.get("truncate")]) + bytes.fromhex(change.get("append", ""))


def mutated_reports(vectors: Path) -> Iterator[Case]:
    """The manifest's mutations."""
    genuine = {case.what: case for case in reports(vectors)}
    for change in json.loads((vectors / "snp" / "mutations.json").read_text())["cases"]:
        case = genuine[change["base"]]
        yield replace(case, what=f"{case.what}: {change['why']}", report=patched(case.report, change))


def mutated_certificates(vectors: Path) -> Iterator[Case]:
    """The manifest's mutations of certificates, each in its place below a real report."""
    parts: dict[str, tuple[str, Case]] = {}
    for entry, case in zip(endorsed(vectors), reports(vectors), strict=True):
        names = (*entry["endorsement_files"][:1], *entry["chain_files"])
        parts.update({name: (part, case) for name, part in zip(names, ("leaf", "ask", "ark"), strict=True)})
    for change in json.loads((vectors / "snp" / "mutations.json").read_text())["certificate_cases"]:
        part, case = parts[change["base"]]
        yield replace(case, what=f"{change['base']}: {change['why']}", **{part: patched(getattr(case, part), change)})


def flipped(vectors: Path) -> Iterator[Case]:
    """One bit in every field of one report of each version, product and kind of key; and in one byte of every report."""
    seen: set[tuple[int, str, bool]] = set()
    for number, case in enumerate(reports(vectors)):
        kind = (case.version, case.product, vlek(case))
        places = {} if kind in seen or case.forged else FIELDS
        for what, at in {**places, "some byte": number * 101 % len(case.report)}.items():
            changed = bytearray(case.report)
            changed[at] ^= 1 << number % 8
            yield replace(case, what=f"{case.what}: {what}", report=bytes(changed))
        seen.add(kind)


SOURCES = (reports, mutated_reports, mutated_certificates, flipped)


def explanations(case: Case) -> Iterator[tuple[str, Difference | None]]:
    """For every peer that disagrees, the first row that says why, or none."""
    mine = ours(case)
    for name, verdict in PEERS.items():
        if (theirs := verdict(case)) != mine:
            rows = [row for row in DIFFERENCES if (row.peer, row.accepts) == (name, theirs) and row.applies(case)]
            yield name, next(iter(rows), None)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_every_difference_from_a_peer_is_explained(vectors: Path, source: Callable[[Path], Iterator[Case]]) -> None:
    seen = 0
    for case in source(vectors):
        seen += 1
        for name, row in explanations(case):
            assert row is not None, f"{name} disagrees about {case.what}"
    assert seen >= 20


def test_every_row_of_the_table_explains_something(vectors: Path) -> None:
    used = {id(row) for source in (reports, flipped) for case in source(vectors) for _, row in explanations(case)}
    assert [row for row in DIFFERENCES if id(row) not in used] == []


def test_peers_and_we_accept_most_genuine_reports_alike(vectors: Path) -> None:
    """Agreement by refusing everything would prove nothing."""
    genuine = [case for case in reports(vectors) if not case.forged]
    assert all(ours(case) for case in genuine)
    for verdict in PEERS.values():
        assert sum(verdict(case) for case in genuine) >= 40
