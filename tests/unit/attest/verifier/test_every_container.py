"""Every real report verifies in whatever it may arrive in, with what it brings along; a changed one does in none."""

from __future__ import annotations

import json
import struct
from base64 import b64encode, encodebytes
from collections.abc import Iterator
from gzip import compress
from pathlib import Path

import pytest

from attest.cli.evidence_judge import Bench, Expected, Rules
from attest.cli.policy_file import policy_bytes
from attest.collateral.published import published_authorities
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.pool import EndorsementSet
from attest.evidence.amd_certificate import AmdCertificate, Role
from attest.evidence.cert_table import ARK, ASK, VCEK, VLEK, CertEntry, build_cert_table
from attest.evidence.snp_json import encode_snp_json
from attest.evidence.snp_report import SnpReport
from attest.verifier.snp import SnpVerifier
from policy.document import parse_policy
from policy.snp import SigningKey
from tests.unit.attest.evidence.test_containers import pem
from tests.unit.attest.evidence.test_snp_json import between, older, spelled
from tests.unit.attest.evidence.test_snp_proto import inside, message
from tests.unit.attest.verifier.vector_files import clock_for, listed, read

SHOWN = Rules(parse_policy(policy_bytes("strict")), (), binding=False)
TURIN_FAMILY = 0x1A
FIELDS = {VCEK: 1, VLEK: 6, ASK: 2}
PLACES = {Role.VCEK: VCEK, Role.VLEK: VLEK, Role.ASK: ASK, Role.ASVK: ASK, Role.ARK: ARK}


def shuffled_table(entries: list[CertEntry]) -> bytes:
    """The last certificate first, gaps between them, and nothing after the last."""
    at = 24 * (len(entries) + 1)
    where: dict[int, int] = {}
    body = b""
    for number in reversed(range(len(entries))):
        body += bytes(40)
        where[number] = at + len(body)
        body += entries[number].data
    head = [entry.guid.bytes + struct.pack("<II", where[n], len(entry.data)) for n, entry in enumerate(entries)]
    return b"".join(head) + bytes(24) + body


def with_certificates(report: SnpReport, entries: list[CertEntry]) -> Iterator[tuple[str, bytes]]:
    """What brings its own certificates."""
    leaf, *authorities = entries
    kbs = encode_snp_json(report, entries)
    armoured = [
        CertEntry(leaf.guid, pem(leaf.data, end="\r\n")),
        CertEntry(ASK, b"".join(pem(entry.data) for entry in authorities)),
    ]
    older_request = {"tee-pubkey": {}, "tee-evidence": json.dumps(spelled(report) | {"cert_chain": kbs["cert_chain"]})}
    yield "table in pages", report.raw + build_cert_table(entries)
    yield "table exactly filled", report.raw + build_cert_table(entries, page=1)
    yield "table in another order", report.raw + shuffled_table(entries)
    yield "table of PEM", report.raw + build_cert_table(armoured)
    yield "table of the leaf alone", report.raw + build_cert_table([leaf])
    yield "KBS evidence", json.dumps(kbs).encode()
    yield "KBS request", json.dumps({"tee-evidence": {"primary_evidence": kbs, "additional_evidence": ""}}).encode()
    yield "older KBS request", json.dumps(older_request).encode()
    text, pems = b64encode(report.raw).decode(), b"".join(pem(entry.data) for entry in entries)
    chain = b"".join(inside(FIELDS[entry.guid], entry.data) for entry in (leaf, *authorities[:1]))
    yield "go-sev-guest's message", message(report.raw, chain)
    yield "JSON of another make", json.dumps({"evidence": text, "endorsements": b64encode(pems).decode()}).encode()
    nested = json.dumps({"all": [{"blob": list(report.raw), "chain": pems.decode()}]})
    yield "another, compressed, as text", b64encode(compress(nested.encode()))


def without_certificates(report: SnpReport) -> Iterator[tuple[str, bytes]]:
    """What needs certificates from elsewhere."""
    response = struct.pack("<II24x", 0, len(report.raw)) + report.raw
    yield "report", report.raw
    yield "empty table", report.raw + bytes(4096)
    yield "the kernel's response", response
    yield "the kernel's response, padded", response.ljust(4000, b"\0")
    yield "hexadecimal", report.raw.hex(" ").encode()
    yield "base64", encodebytes(report.raw)
    yield "CBOR", b"\xa1gout\xffblob\x59\x04\xa0" + report.raw
    yield "go-sev-guest's message alone", message(report.raw)
    yield "KBS, current spelling", json.dumps(spelled(report), indent=1).encode()
    if report.cpuid_fam_id != TURIN_FAMILY:
        yield "KBS, older spelling", json.dumps(older(report)).encode()
        yield "KBS, spelling between", json.dumps(between(report)).encode()


@pytest.mark.parametrize("changed", [False, True], ids=["as it is", "one bit changed"])
def test_a_real_report_verifies_in_every_container_and_a_changed_one_in_none(vectors: Path, changed: bool) -> None:
    verifier, seen = SnpVerifier(TrustAnchors.amd()), 0
    for entry in listed(vectors, "report"):
        own = read(vectors, entry["endorsement_files"])
        if not own:
            continue
        raw = bytearray(read(vectors, [entry["file"]])[0])
        raw[0x90] ^= changed
        report = SnpReport.parse(bytes(raw))
        certificates = map(AmdCertificate.parse, [own[0], *read(vectors, entry["chain_files"])])
        entries = [CertEntry(PLACES[item.role], item.der) for item in certificates]
        assert (entries[0].guid == VLEK) is (report.signing_key is SigningKey.VLEK)
        known, now = published_authorities(), clock_for(own)
        library = EndorsementSet.from_der(own) + known
        for pool, shapes in ((known, with_certificates(report, entries)), (library, without_certificates(report))):
            bench = Bench(pool, verifier, SHOWN, Expected(), now)
            for name, data in shapes:
                result = bench.judge(name, data)
                assert result.code == ("verification.signature" if changed else "genuine"), (
                    entry["file"],
                    name,
                    result,
                )
                seen += 1
    assert seen >= 45 * 20
