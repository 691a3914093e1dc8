"""From CPUID to the product line, which decides the certificate chain and the layout of a TCB version.

Source: AMD, *VCEK Certificate and KDS Interface Specification* (document 57230), and the CPUID ranges the KDS serves:
Bergamo and Siena (family 19h, models A0h to AFh) belong to Genoa.
"""

from __future__ import annotations

from functools import lru_cache

from attest.evidence.errors import EvidenceUnsupported
from attest.evidence.snp_report import SnpReport
from policy.snp import TcbVersion
from policy.vocab import SnpProduct

_RANGES = (
    (0x19, range(0x10), SnpProduct.MILAN),
    (0x19, range(0x10, 0x20), SnpProduct.GENOA),
    (0x19, range(0xA0, 0xB0), SnpProduct.GENOA),
    (0x1A, range(0x12), SnpProduct.TURIN),
)


@lru_cache(maxsize=256)
def product_of_cpuid(family: int, model: int) -> SnpProduct:
    """The product line of a combined CPUID family and model; raises :class:`EvidenceUnsupported` for any other."""
    for wanted, models, product in _RANGES:
        if family == wanted and model in models:
            return product
    raise EvidenceUnsupported(
        f"report: CPU family 0x{family:x} model 0x{model:x} belongs to no known product, want Milan, Genoa or Turin"
    )


def product_of_report(report: SnpReport) -> SnpProduct | None:
    """The product a report states: ``None`` before version 3, where only the certificate chain can tell."""
    if report.cpuid_fam_id is None or report.cpuid_mod_id is None:
        return None
    return product_of_cpuid(report.cpuid_fam_id, report.cpuid_mod_id)


def likely_product(report: SnpReport) -> SnpProduct | None:
    """For display only: what the report states, else Turin if only 8 bytes of the chip id are used, else ``None``."""
    try:
        stated = product_of_report(report)
    except EvidenceUnsupported:
        return None
    return SnpProduct.TURIN if stated is None and report.has_short_chip_id else stated


def tcb_for_display(raw: bytes, product: SnpProduct | None) -> TcbVersion | None:
    """The parts of a raw TCB version in ``product``'s layout (Milan's when unknown); ``None`` if it does not fit."""
    layout = product or SnpProduct.MILAN
    turin = layout is SnpProduct.TURIN
    reserved = raw[4:7] if turin else raw[2:6]
    return None if len(raw) != 8 or any(reserved) else TcbVersion.from_bytes(raw, layout)
