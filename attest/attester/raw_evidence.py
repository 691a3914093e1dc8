"""What a source of evidence gives, and how it says that it does not exist here."""

from __future__ import annotations

from typing import NamedTuple

from attest.attester.errors import EvidenceUnavailable

MAX_CERTIFICATES = 256 * 1024
"""Bytes of a certificate table that are believed; real ones have one or two pages."""


class RawEvidence(NamedTuple):
    """What a source gave: the raw report, the certificate table (may be empty) and the source's name."""

    report: bytes
    certificates: bytes
    source: str


class SourceAbsent(EvidenceUnavailable):
    """This source does not exist here: the next one may be tried. Any other failure ends the search."""

    code = "guest.evidence-absent"
