"""Certification data of a quote: how it says which PCK key vouches for its quoting enclave.

    1         PPID in the clear, CPUSVN, PCESVN, PCEID
    2, 3      PPID encrypted (RSA-2048-OAEP, RSA-3072-OAEP), CPUSVN, PCESVN, PCEID
    4         the PCK certificate
    5         PEM: PCK certificate, intermediate, root; usually ended by a NUL
    6         QE report certification data: wraps one of the others, in quotes of version 4 and 5
    7         platform manifest

Types 1 to 3 name the key without its certificate, so a verifier would have to ask Intel for it. They are read
completely here; that nothing can be verified with them is the verifier's sentence. Types 6 and 7 inside a quote's QE
material are refused, as Intel's quote verification library does. Source: Intel, *SGX ECDSA Quote Library API*, appendix
A.4, table "QE Certification Data".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.pem import CERTIFICATE, parse_pem_strictly
from policy.wire import ByteReader

PPID_CLEAR, PPID_RSA_2048, PPID_RSA_3072, PCK_LEAF, PCK_CHAIN, NESTED, MANIFEST = range(1, 8)
NAMES = {
    PPID_CLEAR: "PPID in the clear", PPID_RSA_2048: "PPID encrypted with RSA-2048",
    PPID_RSA_3072: "PPID encrypted with RSA-3072", PCK_LEAF: "PCK certificate", PCK_CHAIN: "PCK certificate chain",
    NESTED: "QE report certification data", MANIFEST: "platform manifest",
}  # fmt: skip
_PPID_SIZES = {PPID_CLEAR: 16, PPID_RSA_2048: 256, PPID_RSA_3072: 384}
_MAX_CERTIFICATES = 10


class PckIdentity(NamedTuple):
    """What types 1 to 3 say. ``ppid`` has 16 bytes, encrypted 256 or 384; ``cpusvn`` 16, ``pceid`` 2.

    ``pceid`` is ``None`` where type 1 ends before it, as in quotes of Intel's own sample generator.
    """

    ppid: bytes
    encrypted: bool
    cpusvn: bytes
    pcesvn: int
    pceid: bytes | None


@dataclass(frozen=True, slots=True)
class CertificationData:
    """Type (1 to 5) and bytes as received; ``identity`` is what types 1 to 3 say, ``None`` for the others."""

    type: int
    data: bytes = field(repr=False)
    identity: PckIdentity | None

    @property
    def name(self) -> str:
        """The type in words."""
        return NAMES[self.type]

    def certificates(self) -> tuple[bytes, ...]:
        """The DER certificates of types 4 (one) and 5 in the order received; none for the other types.

        Split only when asked, since a verifier that has met the same ``data`` before need not. Raises
        :class:`EvidenceMalformed` for anything but clean PEM of at most 10 certificates; trailing NULs are tolerated.
        """
        if self.type not in (PCK_LEAF, PCK_CHAIN):
            return ()
        blocks = parse_pem_strictly(self.data.rstrip(b"\0"), "certification data", max_blocks=_MAX_CERTIFICATES)
        for block in blocks:
            if block.label != CERTIFICATE:
                raise EvidenceMalformed(f"certification data: PEM block {block.label}, want {CERTIFICATE}")
        if self.type == PCK_LEAF and len(blocks) != 1:
            raise EvidenceMalformed(f"certification data: {len(blocks)} certificates in type 4, want 1")
        return tuple(block.data for block in blocks)


def parse_certification(kind: int, data: bytes, *, base: int = 0) -> CertificationData:
    """Certification data in its place beside a QE report; ``base`` is where ``data`` stands in its file.

    Raises :class:`EvidenceMalformed` where a size does not fit the type and :class:`EvidenceUnsupported` for other
    types.
    """
    if kind in (PCK_LEAF, PCK_CHAIN):
        return CertificationData(kind, data, None)
    if kind not in _PPID_SIZES:
        shown = f"{kind} ({NAMES.get(kind, 'unknown')})"
        raise EvidenceUnsupported(f"quote: certification data type {shown} beside a QE report, want 1 to 5")
    reader = ByteReader(data, f"certification data type {kind}", error=EvidenceMalformed, base=base)
    identity = PckIdentity(
        reader.take(_PPID_SIZES[kind], "ppid"),
        kind != PPID_CLEAR,
        reader.take(16, "cpusvn"),
        reader.u16("pcesvn"),
        None if kind == PPID_CLEAR and not reader.remaining else reader.take(2, "pceid"),
    )
    reader.end()
    return CertificationData(kind, data, identity)
