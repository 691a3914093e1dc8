"""The chip itself: a launch context in, signed reports out. Pure but for the random report id it is given.

Report layout: AMD, *SEV Secure Nested Paging Firmware ABI Specification* (document 56860), table "ATTESTATION_REPORT
Structure", version 3; little-endian; signature R and S as 72-byte little-endian integers at 0x2A0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from attest.emulator.pki import TCB, ChipKeys
from attest.evidence.cert_table import ARK, ASK, CRL, VCEK, CertEntry, build_cert_table
from attest.evidence.chip_port import ReportRequest
from policy.snp import PlatformInfo
from policy.vocab import LaunchDigest

REPORT_VERSION = 3
SIGNATURE_ECDSA_P384_SHA384 = 1
# SMT on, ECC on, alias check complete: what current Genoa machines say.
PLATFORM_INFO = PlatformInfo(1 << 0 | 1 << 2 | 1 << 5)
CPUID_GENOA = (0x19, 0x11, 1)
FIRMWARE_BUILD_MINOR_MAJOR = (39, 55, 1)
NO_MIGRATION_AGENT = b"\xff" * 32


@dataclass(frozen=True, slots=True)
class LaunchContext:
    """What the firmware of a real chip fixes at launch. ``host_data`` and ``report_id`` are 32 bytes."""

    measurement: LaunchDigest
    policy: int
    host_data: bytes
    report_id: bytes


class Chip:
    """Signs reports about one guest."""

    def __init__(self, keys: ChipKeys, launch: LaunchContext, crl_der: bytes = b"") -> None:
        self._keys = keys
        self._launch = launch
        entries = [
            CertEntry(VCEK, keys.vcek.public_bytes(Encoding.DER)),
            CertEntry(ASK, keys.ask.public_bytes(Encoding.DER)),
            CertEntry(ARK, keys.ark.public_bytes(Encoding.DER)),
        ]
        if crl_der:
            entries.append(CertEntry(CRL, crl_der))
        self.certificates = build_cert_table(entries)

    def report(self, request: ReportRequest) -> bytes:
        """A signed report, 1184 bytes, over ``request.report_data`` at ``request.vmpl``."""
        body = self._body(request)
        signature = self._keys.vcek_key.sign(body, ec.ECDSA(hashes.SHA384()))
        r, s = decode_dss_signature(signature)
        return body + r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(368)

    def _body(self, request: ReportRequest) -> bytes:
        """The 672 signed bytes."""
        launch, tcb = self._launch, TCB.to_bytes()
        firmware = bytes(FIRMWARE_BUILD_MINOR_MAJOR) + b"\0"
        body = b"".join((
            struct.pack("<IIQ16x16x", REPORT_VERSION, 0, launch.policy),
            struct.pack("<II", request.vmpl, SIGNATURE_ECDSA_P384_SHA384),
            tcb,  # CURRENT
            struct.pack("<QI4x", PLATFORM_INFO, 0),  # KEY_INFO 0: signed with the VCEK
            request.report_data,
            launch.measurement,
            launch.host_data,
            bytes(48 + 48),  # ID and author key digests: launched without an ID block
            launch.report_id,
            NO_MIGRATION_AGENT,
            tcb,  # REPORTED
            bytes(CPUID_GENOA) + bytes(21),
            self._keys.chip_id,
            tcb,  # COMMITTED
            firmware,  # current
            firmware,  # committed
            tcb,  # LAUNCH
            bytes(168),
        ))  # fmt: skip
        if len(body) != 0x2A0:
            raise ValueError(f"report body of {len(body)} bytes: a field has the wrong length")
        return body
