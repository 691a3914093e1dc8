"""Evidence of SNP guests as the service takes it: how much of it is looked at."""

from __future__ import annotations

from base64 import encodebytes
from datetime import UTC, datetime
from pathlib import Path

import pytest

from attest.broker.collateral import ServiceCollateral
from attest.broker.present_snp import MAX_SENT, PresentedSnp, present_snp
from attest.broker.presented import Memory
from attest.collateral.published import published_authorities
from attest.endorsement.amd_cache import ChainCache
from attest.endorsement.amd_links import Chain
from attest.endorsement.errors import VerificationFailed
from attest.evidence.amd_certificate import AmdCertificate
from attest.evidence.cert_table import ARK, ASK, VCEK, CertEntry, parse_cert_table
from attest.evidence.chip_port import ReportRequest
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.snp_json import encode_snp_json
from attest.evidence.snp_report import SnpReport
from policy.document import parse_policy
from tests.fakes.guest import chip

STRICT = parse_policy((Path(__file__).resolve().parents[4] / "policy/documents/strict.toml").read_bytes())
NOW = datetime.now(UTC)


def made_up(der: bytes, count: int) -> bytes:
    """As many certificates, in one text, that differ in their last bytes: in signatures nobody made."""
    blocks = (der[:-4] + number.to_bytes(4, "big") for number in range(count))
    return b"".join(b"-----BEGIN CERTIFICATE-----\n" + encodebytes(b) + b"-----END CERTIFICATE-----\n" for b in blocks)


def presented(leaves: int, intermediates: int, roots: int) -> PresentedSnp:
    """A made-up report of a guest that sends so many of each, the roots with AMD's own key."""
    guest = chip()
    authorities = published_authorities()
    ark = next(item.der for item in authorities.roots if item.subject_cn == "ARK-Genoa")
    ask = next(item.der for item in authorities.intermediates if item.subject_cn == "SEV-Genoa")
    leaf = next(entry.data for entry in parse_cert_table(guest.certificates) if entry.guid == VCEK)
    counts = ((VCEK, leaf, leaves), (ASK, ask, intermediates), (ARK, ark, roots))
    entries = [CertEntry(guid, made_up(der, count)) for guid, der, count in counts]
    evidence = encode_snp_json(SnpReport.parse(guest.report(ReportRequest(bytes(64)))), entries)
    return present_snp(evidence, ServiceCollateral(), STRICT, bytes(64), NOW)


def test_a_guest_sends_no_more_certificates_than_a_chain_could_need() -> None:
    """Thirty of each, in three texts, took seconds of the service's time: every triple is tried."""
    with pytest.raises(EvidenceMalformed, match=f"90 certificates and lists, want at most {MAX_SENT}"):
        presented(30, 30, 30)


class Counting(ChainCache):
    """Counts the chains that are tried; of made-up certificates none is remembered."""

    tried = 0

    def chain(self, leaf: AmdCertificate, intermediate: AmdCertificate, root: AmdCertificate) -> Chain:
        self.tried += 1
        return super().chain(leaf, intermediate, root)


def test_what_made_up_certificates_cost_is_bounded() -> None:
    """A tenth of a millisecond each; 27,000 could be asked for before."""
    chains = Counting()
    with pytest.raises(VerificationFailed, match="certificate SEV-VCEK"):
        presented(5, 5, 6).verify(bytes(64), STRICT, NOW, Memory(chains))
    assert chains.tried == 5 * (5 + 1) * (6 + 1), "the service's own pair of authorities besides"
