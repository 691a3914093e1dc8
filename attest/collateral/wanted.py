"""What can be asked of AMD's key distribution service: a name for each thing, its path, and how large it may be.

Source: AMD, *VCEK Certificate and KDS Interface Specification* (document 57230), chapter 4. Certificates are immutable
in meaning per product, chip and TCB version, which is therefore their name here; their bytes are not (AMD re-issues).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from attest.collateral.cache import shared_lock_name
from attest.evidence.x509_reading import MAX_CERTIFICATE, MAX_CRL
from policy.errors import MalformedInput
from policy.snp import TcbVersion
from policy.vocab import SnpProduct

HWID_BYTES = {SnpProduct.MILAN: 64, SnpProduct.GENOA: 64, SnpProduct.TURIN: 8}
_PARAMETERS = {"fmc": "fmcSPL", "bootloader": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "microcode": "ucodeSPL"}
_NAME = re.compile(
    r"(?P<kind>vcek)-(?P<product>[A-Z][a-z]+)-(?P<hwid>[0-9a-f]{16}|[0-9a-f]{128})-(?P<tcb>[0-9a-f]{16})"
    r"|(?P<other>chain|crl)-(?P<family>vcek|vlek)-(?P<of>[A-Z][a-z]+)"
)


class Kind(Enum):
    """A leaf certificate, an intermediate with its root, or a revocation list."""

    VCEK = "vcek"
    CHAIN = "chain"
    CRL = "crl"


class Family(Enum):
    """Whose chain and list: that of chips' keys or that of clouds' keys."""

    VCEK = "vcek"
    VLEK = "vlek"


_MAX_BODY = {Kind.VCEK: MAX_CERTIFICATE, Kind.CHAIN: 4 * MAX_CERTIFICATE, Kind.CRL: MAX_CRL}


class NotAskable(MalformedInput):
    """A chip id or TCB version that belongs to no key of the product."""

    code = "collateral.not-askable"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing. ``hwid`` (64 bytes, Turin 8) and ``tcb`` are set for a VCEK and only then."""

    kind: Kind
    product: SnpProduct
    family: Family = Family.VCEK
    hwid: bytes | None = None
    tcb: TcbVersion | None = None

    @property
    def name(self) -> str:
        """A name that is also a file name: ``vcek-Genoa-<hwID>-<TCB, 8 bytes as in a report>``, ``crl-vlek-Milan``."""
        if self.hwid is None or self.tcb is None:
            return f"{self.kind.value}-{self.family.value}-{self.product.value}"
        return f"{self.kind.value}-{self.product.value}-{self.hwid.hex()}-{self.tcb.to_bytes().hex()}"

    @property
    def lock_name(self) -> str:
        """The name; all VCEKs share 256, because a file for each chip id somebody thinks of would be too many."""
        return shared_lock_name("vcek", self.name) if self.kind is Kind.VCEK else self.name

    @property
    def path(self) -> str:
        """Path and query below the service's base URL; on Turin fmcSPL stands first."""
        start = f"/{self.family.value}/v1/{self.product.value}"
        if self.hwid is None or self.tcb is None:
            return f"{start}/cert_chain" if self.kind is Kind.CHAIN else f"{start}/crl"
        query = "&".join(f"{_PARAMETERS[part]}={value:02d}" for part, value in self.tcb.parts().items())
        return f"{start}/{self.hwid.hex()}?{query}"

    @property
    def max_body(self) -> int:
        """The most bytes an answer may have."""
        return _MAX_BODY[self.kind]

    def __str__(self) -> str:
        if self.hwid is None or self.tcb is None:
            what = "certificate chain" if self.kind is Kind.CHAIN else "CRL"
            return f"{self.product.value} {self.family.name} {what}"
        return f"{self.product.value} VCEK of chip {self.hwid.hex()[:16]}… at {self.tcb}"


def wanted_vcek(product: SnpProduct, chip_id: bytes, tcb: bytes) -> Wanted:
    """The VCEK of ``chip_id`` (64 bytes as in a report, or the bare hwID) at ``tcb`` (8 bytes as in a report).

    Raises :class:`NotAskable` for a masked chip id, one of another length, and a TCB version of another layout.
    """
    size = HWID_BYTES[product]
    if not any(chip_id):
        raise NotAskable("chip id: all zero (masked by the host), so no VCEK can be asked for")
    if len(chip_id) not in (size, 64) or any(chip_id[size:]):
        raise NotAskable(
            f"chip id: {len(chip_id)} bytes for {product.value}, want {size}"
            + (" (the other 56 bytes of a report's field are zero)" if size == 8 else "")
        )
    try:
        version = TcbVersion.from_bytes(tcb, product)
    except MalformedInput as exc:
        raise NotAskable(str(exc)) from None
    return Wanted(Kind.VCEK, product, hwid=chip_id[:size], tcb=version)


def wanted_from_name(name: str) -> Wanted:
    """The inverse of :attr:`Wanted.name`. Raises :class:`NotAskable`."""
    match = _NAME.fullmatch(name)
    try:
        if match is None:
            raise ValueError(name)
        if match["kind"]:
            chip, tcb = bytes.fromhex(match["hwid"]), bytes.fromhex(match["tcb"])
            wanted = wanted_vcek(SnpProduct(match["product"]), chip, tcb)
        else:
            wanted = Wanted(Kind(match["other"]), SnpProduct(match["of"]), Family(match["family"]))
    except ValueError:
        raise NotAskable(f"collateral {name[:200]!r}: not a name of a VCEK, chain or CRL") from None
    if wanted.name != name:
        raise NotAskable(f"collateral {name[:200]!r}: want {wanted.name!r}")
    return wanted
