"""An Azure paravisor: HCL blobs and vTPM quotes around a fake report."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from tests.fakes.amd_pki import FakeAmdPki, rsa_key


def b64url(data: bytes) -> str:
    """Without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class FakeAzure:
    """Knobs of the blob and the quote; everything is right by default."""

    challenge: bytes = b"challenge"
    user_data: str = b"challenge".hex().ljust(128, "0").upper()
    signer: str = "ak"
    magic: int = 0xFF544347
    kind: int = 0x8018
    bank: int = 0x000B
    selection: bytes = b"\xff\xff\xff"
    quoted_pcrs: tuple[bytes, ...] = tuple(bytes([index]) * 32 for index in range(24))
    pcrs: tuple[bytes, ...] = tuple(bytes([index]) * 32 for index in range(24))
    version: int = 2
    keys: list[dict[str, Any]] | None = None
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def variable_data(self) -> bytes:
        """The JSON whose hash is REPORT_DATA."""
        numbers = rsa_key("ak").public_key().public_numbers()
        key = {"kid": "HCLAkPub", "kty": "RSA", "e": "AQAB", "n": b64url(numbers.n.to_bytes(256, "big"))}
        return json.dumps({"keys": [key] if self.keys is None else self.keys, "user-data": self.user_data}).encode()

    @cached_property
    def world(self) -> FakeAmdPki:
        """The chip, with a report bound to the variable data."""
        return FakeAmdPki(report={"report_data": hashlib.sha256(self.variable_data).digest() + bytes(32)})

    @property
    def blob(self) -> bytes:
        """The HCL blob, 2600 bytes."""
        return self.blob_of(self.world.raw, 2)

    def blob_of(self, report: bytes, kind: int) -> bytes:
        """A blob around a report of 1184 bytes; ``kind`` is 2 for SNP, 4 for TDX."""
        header = b"HCLA" + struct.pack("<7I", 2, 0, 2, 0, 0, 0, 0)
        size = len(self.variable_data)
        request = struct.pack("<5I", size + 20, 1, kind, 1, size)
        return (header + report + request + self.variable_data).ljust(2600, b"\0")

    @property
    def quote(self) -> bytes:
        """TPMS_ATTEST."""
        digest = hashlib.sha256(b"".join(self.quoted_pcrs)).digest()
        return (
            struct.pack(">IH", self.magic, self.kind)
            + struct.pack(">H", 4)
            + b"name"
            + struct.pack(">H", len(self.challenge))
            + self.challenge
            + bytes(25)
            + struct.pack(">IHB", 1, self.bank, len(self.selection))
            + self.selection
            + struct.pack(">H", 32)
            + digest
        )

    @property
    def evidence(self) -> dict[str, Any]:
        """The JSON of ``az-snp-vtpm``."""
        value = {
            "version": self.version,
            "hcl_report": b64url(self.blob),
            "vcek": b64url(self.world.leaf_der),
            "tpm_quote": self.tpm_quote,
        }
        return value | self.changes

    @property
    def tpm_quote(self) -> dict[str, Any]:
        """The signed quote as it stands in the evidence."""
        return {
            "message": self.quote.hex(),
            "signature": rsa_key(self.signer).sign(self.quote, padding.PKCS1v15(), hashes.SHA256()).hex(),
            "pcrs": [pcr.hex() for pcr in self.pcrs],
        }

    def td_evidence(self, tdreport: bytes, td_quote: bytes) -> dict[str, Any]:
        """The JSON of ``az-tdx-vtpm``: version 1, or 0 in arrays of integers."""
        blob = self.blob_of(tdreport.ljust(1184, b"\0"), 4)
        if self.version:
            value = {
                "version": 1,
                "hcl_report": b64url(blob),
                "td_quote": b64url(td_quote),
                "tpm_quote": self.tpm_quote,
            }
            return value | self.changes
        signed = {name: list(bytes.fromhex(self.tpm_quote[name])) for name in ("message", "signature")}
        pcrs = [list(pcr) for pcr in self.pcrs]
        value = {"hcl_report": list(blob), "td_quote": list(td_quote), "tpm_quote": {**signed, "pcrs": pcrs}}
        return value | self.changes
