"""Evidence as one guest presented it, with everything it is verified with: all in which kinds of TEE differ.

The steps around it (challenge, decision, record, token, deciding again) are the same for every kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from attest.broker.proof_form import Shelf
from attest.endorsement.amd_cache import ChainCache
from attest.endorsement.intel import IntelAnchors
from attest.verifier.quote import QuoteVerifier
from policy.claims import VerifiedClaims
from policy.document import PolicyDocument

Put = Callable[[bytes], bytes]
"""Keeps bytes and returns the digest that names them."""

Blob = Callable[[str], bytes]
"""The bytes that a digest (hexadecimal) names."""

_VERIFIERS = 16


@dataclass(frozen=True, slots=True)
class Memory:
    """What verifiers remember between guests: chains that were verified and bytes that were read, never verdicts."""

    chains: ChainCache = field(default_factory=ChainCache)
    shelf: Shelf = field(default_factory=Shelf, repr=False)
    _quotes: dict[frozenset[bytes], QuoteVerifier] = field(default_factory=dict, repr=False)

    def quote_verifier(self, anchors: IntelAnchors) -> QuoteVerifier:
        """The verifier for these trusted keys, with what it remembers."""
        keys = frozenset(anchors.keys)
        verifier = self._quotes.get(keys)
        if verifier is None:
            if len(self._quotes) >= _VERIFIERS:
                self._quotes.clear()
            verifier = self._quotes[keys] = QuoteVerifier(anchors)
        return verifier


class Presented(Protocol):
    """One kind of TEE's evidence, parsed, with the endorsements that a record of the decision has to keep."""

    @property
    def launch_digest(self) -> bytes:
        """What the hardware measured at launch, as the evidence claims."""
        ...

    @property
    def list_too_old(self) -> bool:
        """The operator's bound on the age of revocation lists counts against the guest."""
        ...

    def verify(self, report_data: bytes, document: PolicyDocument, now: datetime, memory: Memory) -> VerifiedClaims:
        """The claims; ``report_data`` are the 64 bytes they must be bound to. Raises AttestError."""
        ...

    def keep(self, put: Put) -> Mapping[str, Any]:
        """Keep every byte the decision rests on and return what names them."""
        ...
