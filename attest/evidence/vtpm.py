"""Evidence of an Azure confidential VM: HCL blob, a quote of the paravisor's virtual TPM, and a VCEK or a TD quote.

Spellings: version 0 (arrays of integers, PEM), 1 and, for SNP only, 2 (hexadecimal and base64url). Source: Trustee,
``az-snp-vtpm`` and ``az-tdx-vtpm`` verifier evidence; TCG, *TPM 2.0 Library*, part 2, TPMS_ATTEST.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.hcl import HclBlob, parse_hcl
from attest.evidence.pem import CERTIFICATE, parse_pem
from attest.evidence.quote import Quote, parse_quote
from policy.wire import ByteReader

_GENERATED, _ST_ATTEST_QUOTE, _ALG_SHA256 = 0xFF544347, 0x8018, 0x000B
_PCRS = 24
_MAX_BLOB = 64 * 1024
_MAX_NAME = 68
_CLOCK_INFO = 17
_FIRMWARE_VERSION = 8


@dataclass(frozen=True, slots=True)
class TpmQuote:
    """A TPM2_Quote of all 24 PCRs of the SHA-256 bank. ``extra_data`` is the challenge, ``pcr_digest`` 32 bytes."""

    message: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    pcrs: tuple[bytes, ...] = field(repr=False)
    extra_data: bytes
    pcr_digest: bytes


@dataclass(frozen=True, slots=True)
class VtpmEvidence:
    """Parsed and unverified; ``certificates`` are DER. ``td_quote`` is ``None`` where the HCL report is SNP's."""

    version: int
    hcl: HclBlob
    quote: TpmQuote
    certificates: tuple[bytes, ...] = field(repr=False)
    td_quote: Quote | None = None


def decode_vtpm_json(value: object) -> VtpmEvidence:
    """Of an SNP guest, from parsed JSON; raises :class:`EvidenceMalformed` and :class:`EvidenceUnsupported`."""
    evidence = _object(value, "vTPM evidence")
    version = evidence.get("version", 0)
    if type(version) is not int or version not in (0, 1, 2):
        raise EvidenceUnsupported(f"vTPM evidence: version {str(version)[:20]!r}, want 0, 1 or 2")
    quote = _object(evidence.get("tpm_quote" if version else "quote"), "vTPM evidence: quote")
    report, vcek = evidence.get("hcl_report" if version else "report"), evidence.get("vcek")
    return VtpmEvidence(
        version=version,
        hcl=parse_hcl(_base64url(report, "hcl_report") if version else _octets(report, "report")),
        quote=_quote(quote),
        certificates=(_base64url(vcek, "vcek"),) if version else _pem(vcek),
    )


def decode_td_vtpm_json(value: object) -> VtpmEvidence:
    """Of a TD, from parsed JSON; raises :class:`EvidenceMalformed` and :class:`EvidenceUnsupported`."""
    evidence = _object(value, "vTPM evidence")
    version = evidence.get("version", 0)
    if type(version) is not int or version not in (0, 1):
        raise EvidenceUnsupported(f"vTPM evidence: version {str(version)[:20]!r} with a TD quote, want 0 or 1")
    decode = _base64url if version else _octets
    return VtpmEvidence(
        version=version,
        hcl=parse_hcl(decode(evidence.get("hcl_report"), "hcl_report")),
        quote=_quote(_object(evidence.get("tpm_quote"), "vTPM evidence: quote")),
        certificates=(),
        td_quote=parse_quote(decode(evidence.get("td_quote"), "td_quote")),
    )


def _quote(value: Mapping[str, object]) -> TpmQuote:
    message = _octets(value.get("message"), "quote message")
    pcrs = value.get("pcrs")
    if not isinstance(pcrs, list) or len(pcrs) != _PCRS:
        raise EvidenceMalformed(f"vTPM evidence: pcrs: want {_PCRS} of them")
    values = tuple(_octets(item, "pcr") for item in pcrs)
    if any(len(item) != 32 for item in values):
        raise EvidenceMalformed("vTPM evidence: pcrs: want SHA-256 values of 32 bytes")
    extra_data, pcr_digest = _parse_attest(message)
    return TpmQuote(message, _octets(value.get("signature"), "quote signature"), values, extra_data, pcr_digest)


def _parse_attest(message: bytes) -> tuple[bytes, bytes]:
    """TPMS_ATTEST (big-endian) of a quote over all SHA-256 PCRs: extraData and pcrDigest."""
    reader = ByteReader(message, "TPM quote", error=EvidenceMalformed)
    if (magic := reader.u32be("magic")) != _GENERATED:
        raise reader.fail(f"magic 0x{magic:x}, want 0x{_GENERATED:x}: not made by a TPM")
    if (kind := reader.u16be("type")) != _ST_ATTEST_QUOTE:
        raise reader.fail(f"type 0x{kind:x}, want 0x{_ST_ATTEST_QUOTE:x} (quote)")
    _sized(reader, "qualified signer")
    extra_data = _sized(reader, "extra data")
    reader.skip(_CLOCK_INFO + _FIRMWARE_VERSION, "clock and firmware version")
    selections = reader.u32be("PCR selections")
    # One selection of one bank: sixteen 48-byte PCRs would hash like twenty-four 32-byte ones.
    bank = reader.u16be("PCR bank") if selections == 1 else 0
    selected = reader.take(reader.u8("PCR selection size"), "PCR selection") if selections == 1 else b""
    if bank != _ALG_SHA256 or selected != b"\xff\xff\xff":
        raise reader.fail(f"selects {selected.hex() or selections} of bank 0x{bank:x}, want all 24 SHA-256 PCRs")
    digest = _sized(reader, "PCR digest")
    reader.end()
    return extra_data, digest


def _sized(reader: ByteReader, name: str) -> bytes:
    size = reader.u16be(f"{name} size")
    if size > _MAX_NAME:
        raise reader.fail(f"{name} of {size} bytes, want at most {_MAX_NAME}")
    return reader.take(size, name)


def _object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise EvidenceMalformed(f"{what}: got {type(value).__name__}, want an object")
    return value


def _octets(value: object, name: str) -> bytes:
    """An array of bytes (version 0) or hexadecimal digits."""
    if (
        isinstance(value, list)
        and len(value) <= _MAX_BLOB
        and all(type(item) is int and 0 <= item <= 255 for item in value)
    ):
        return bytes(value)
    if isinstance(value, str) and len(value) <= 2 * _MAX_BLOB and re.fullmatch(r"(?:[0-9a-fA-F]{2})*", value):
        return bytes.fromhex(value)
    raise EvidenceMalformed(f"vTPM evidence: {name}: want bytes as an array or as hexadecimal digits")


def _base64url(value: object, name: str) -> bytes:
    """With or without padding."""
    if not isinstance(value, str) or len(value) > 2 * _MAX_BLOB or not re.fullmatch(r"[A-Za-z0-9_-]*={0,2}", value):
        raise EvidenceMalformed(f"vTPM evidence: {name}: want base64url")
    digits = value.rstrip("=")
    try:
        return base64.urlsafe_b64decode(digits + "=" * (-len(digits) % 4))
    except (ValueError, binascii.Error):
        raise EvidenceMalformed(f"vTPM evidence: {name}: want base64url") from None


def _pem(value: object) -> tuple[bytes, ...]:
    if not isinstance(value, str) or len(value) > _MAX_BLOB:
        raise EvidenceMalformed("vTPM evidence: vcek: want PEM")
    return tuple(block.data for block in parse_pem(value.encode("utf-8")) if block.label == CERTIFICATE)
