"""The private extensions of a VCEK or VLEK: which chip (or cloud) and which TCB the key stands for.

Source: AMD, *VCEK Certificate and KDS Interface Specification* (document 57230), tables of the X.509 v3 custom
extensions (arc 1.3.6.1.4.1.3704.1). Integers and strings are DER inside the extension; hwID is the bare bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attest.evidence.der import exact_ia5, exact_integer, exact_octets
from attest.evidence.errors import EvidenceMalformed
from policy.snp import SigningKey, TcbVersion

ARC = "1.3.6.1.4.1.3704.1"
_STRUCT_VERSION, _PRODUCT_NAME, _HWID, _CSP_ID = (f"{ARC}.{number}" for number in (1, 2, 4, 5))
_SPL = f"{ARC}.3"
_PARTS = {"bootloader": f"{_SPL}.1", "tee": f"{_SPL}.2", "snp": f"{_SPL}.3", "microcode": f"{_SPL}.8"}
_FMC = f"{_SPL}.9"
_RESERVED_PARTS = tuple(f"{_SPL}.{number}" for number in (4, 5, 6, 7))
_HWID_SIZE = {False: 64, True: 8}
_MAX_SPL = 255


@dataclass(frozen=True, slots=True)
class AmdExtensions:
    """What the extensions say. ``hwid`` is 64 bytes (Milan, Genoa) or 8 (Turin), ``None`` in a VLEK; ``csp_id`` is
    ``None`` in a VCEK. ``tcb.fmc`` is set for Turin only."""

    struct_version: int
    product_name: str
    tcb: TcbVersion
    hwid: bytes | None
    csp_id: str | None


def parse_amd_extensions(values: Mapping[str, bytes], kind: SigningKey) -> AmdExtensions:
    """From OID (dotted) to extension value, every OID once (the certificate reader refuses duplicates).

    Unknown OIDs under the arc are ignored: AMD adds parts with new products, and a part that this release cannot
    compare is caught because REPORTED_TCB has bytes for it. Raises :class:`EvidenceMalformed` for a missing or
    inexact part, a VCEK without hwID or with cspID, and a VLEK the other way round.
    """
    turin = _FMC in values
    parts = {name: _spl(values, oid, name) for name, oid in _PARTS.items()}
    fmc = _spl(values, _FMC, "fmc") if turin else None
    for oid in _RESERVED_PARTS:
        if oid in values and _spl(values, oid, "reserved part"):
            raise EvidenceMalformed(f"certificate: reserved SPL {oid} must be zero, got {values[oid].hex()}")
    return AmdExtensions(
        struct_version=exact_integer(_value(values, _STRUCT_VERSION), "certificate: structVersion", maximum=255),
        product_name=exact_ia5(_value(values, _PRODUCT_NAME), "certificate: productName"),
        tcb=TcbVersion(**parts, fmc=fmc),
        hwid=_hwid(values, kind, turin),
        csp_id=_csp_id(values, kind),
    )


def _value(values: Mapping[str, bytes], oid: str) -> bytes:
    try:
        return values[oid]
    except KeyError:
        raise EvidenceMalformed(f"certificate: extension {oid} is missing") from None


def _spl(values: Mapping[str, bytes], oid: str, name: str) -> int:
    return exact_integer(_value(values, oid), f"certificate: {name} SPL", maximum=_MAX_SPL)


def _hwid(values: Mapping[str, bytes], kind: SigningKey, turin: bool) -> bytes | None:
    if kind is SigningKey.VLEK:
        if _HWID in values:
            raise EvidenceMalformed("certificate: a VLEK names no chip, but hwID is present")
        return None
    value, size = _value(values, _HWID), _HWID_SIZE[turin]
    if len(value) == size + 2:
        # Some early certificates wrap the bytes in an OCTET STRING.
        value = exact_octets(value, "certificate: hwID")
    if len(value) != size:
        raise EvidenceMalformed(f"certificate: hwID has {len(value)} bytes, want {size}")
    return value


def _csp_id(values: Mapping[str, bytes], kind: SigningKey) -> str | None:
    if kind is SigningKey.VCEK:
        if _CSP_ID in values:
            raise EvidenceMalformed("certificate: a VCEK belongs to no cloud, but cspID is present")
        return None
    return exact_ia5(_value(values, _CSP_ID), "certificate: cspID")
