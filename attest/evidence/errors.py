"""Errors of evidence parsing: the bytes are bad, which is always the sender's doing."""

from __future__ import annotations

from attest.errors import AttestError, Kind
from policy.errors import MalformedInput, UnsupportedInput


class EvidenceMalformed(AttestError, MalformedInput):
    """Evidence or a certificate that does not parse completely."""

    code = "evidence.malformed"
    kind: Kind = "guest"


class EvidenceUnsupported(EvidenceMalformed, UnsupportedInput):
    """Evidence of a version, kind or product this release does not know; the message names it."""

    code = "evidence.unsupported"
