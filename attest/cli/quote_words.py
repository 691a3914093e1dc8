"""The fields of a quote or TDREPORT in words: measurements, attribute bits by name, who signed."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Iterator
from dataclasses import fields

from attest.cli.field_words import NamedBits, bit_lines, byte_lines, named_bits, set_bits, word_line
from attest.evidence.certification import PckIdentity
from attest.evidence.quote import INTEL_QE_VENDOR, Quote
from attest.evidence.sgx_report import SgxReportBody
from attest.evidence.td_report import TdReportBody
from attest.evidence.tdreport_struct import TdReportStruct
from policy.bits import Bits
from policy.tdx import Xfam

TD_BITS: NamedBits = (
    (0, "debug", "the host may read and change everything"),
    (4, "hgs_plus_prof", "profiled by the host: hardware guided scheduling"),
    (5, "perf_prof", "profiled by the host: performance counters"),
    (6, "pmt_prof", "profiled by the host: platform telemetry"),
    (16, "icssd", "defence against single-stepping is on"),
    (17, "servtd_ext", "service TDs may have extended rights"),
    (27, "lass", "linear address space separation"),
    (28, "sept_ve_disable", "pages that the host takes away stop the TD: the host cannot inject #VE"),
    (29, "migratable", "a migration TD may move this TD to another machine"),
    (30, "pks", "supervisor protection keys"),
    (31, "kl", "key locker"),
    (62, "tpa", "provisioning agent of TDX Connect"),
    (63, "perfmon", "performance monitoring inside the TD"),
)
"""ATTRIBUTES of a TD: bit, name, meaning when set. Source: Intel 348551, table "ATTRIBUTES"."""

SGX_BITS: NamedBits = (
    (0, "init", "the enclave is initialised"),
    (1, "debug", "the host may read and change the enclave"),
    (2, "mode64bit", "64-bit enclave"),
    (4, "provision_key", "may use the provisioning key"),
    (5, "einittoken_key", "may use the launch key"),
    (6, "cet", "control-flow enforcement"),
    (7, "kss", "key separation and sharing: CONFIGID and the extended product id count"),
    (10, "aex_notify", "is told of asynchronous exits"),
)
"""ATTRIBUTES.FLAGS of an enclave: bit, name, meaning when set. Source: Intel SDM volume 3D, table "ATTRIBUTES"."""

_HOST = "chosen by the host at launch"
_RTMRS = ("firmware settings and ACPI tables", "kernel image, boot path", "command line, initrd", "free for the guest")


def quote_json(quote: Quote) -> dict[str, object]:
    """All fields by their names; byte strings in hexadecimal, attributes as numbers."""
    certification = quote.certification
    return {
        "version": quote.version,
        "tee": "tdx" if quote.is_tdx else "sgx",
        "body_type": quote.body_type,
        "attestation_key_type": quote.attestation_key_type,
        "qe_svn": quote.qe_svn,
        "pce_svn": quote.pce_svn,
        "qe_vendor_id": quote.qe_vendor_id.hex(),
        "user_data": quote.user_data.hex(),
        "body": fields_json(quote.body),
        "signature": quote.signature.hex(),
        "attestation_key": quote.attestation_key.hex(),
        "qe_report": fields_json(quote.qe_report),
        "qe_report_signature": quote.qe_report_signature.hex(),
        "qe_auth_data": quote.qe_auth_data.hex(),
        "certification": {
            "type": certification.type,
            "name": certification.name,
            "identity": None if certification.identity is None else _plain_identity(certification.identity),
        },
        "signed_sha256": quote.signed_sha256.hex(),
        "padding": quote.padding,
    }


def body_details(body: TdReportBody | SgxReportBody | TdReportStruct) -> dict[str, object]:
    """What the bits mean, as JSON values; ``undefined_bits`` are set bits this release has no name for."""
    if isinstance(body, SgxReportBody):
        return {"attributes": _bits_json(body.attributes, SGX_BITS), "xfrm": _features(body.xfrm)}
    return {
        "td_attributes": _bits_json(body.td_attributes, TD_BITS),
        "xfam": _features(body.xfam),
        "module": {"major": body.tee_tcb_svn[1], "minor_svn": body.tee_tcb_svn[0]},
        "rtmrs_zero": not any(any(value) for value in body.rtmrs),
    }


def fields_json(value: TdReportBody | SgxReportBody | TdReportStruct) -> dict[str, object]:
    """The fields of a body without its raw bytes."""
    names = value._fields if isinstance(value, TdReportBody) else [item.name for item in fields(value)]
    return {name: _plain(getattr(value, name)) for name in names if name != "raw"}


def quote_lines(quote: Quote) -> Iterator[str]:
    """The quote for people, at most 100 columns wide; its certificates are shown apart."""
    what = f"TD report {quote.body_type}" if quote.is_tdx else "SGX report"
    yield f"quote version {quote.version}: {what}"
    yield word_line("signed with", "ECDSA P-256 by the quoting enclave's attestation key")
    vendor = "Intel" if quote.qe_vendor_id == INTEL_QE_VENDOR else "UNKNOWN"
    yield word_line("qe_vendor_id", f"{quote.qe_vendor_id.hex()}   {vendor}")
    yield from byte_lines("user_data", quote.user_data, "the platform's own name for its quoting enclave")
    if quote.version == 3:
        yield word_line("header SVNs", f"QE {quote.qe_svn}, PCE {quote.pce_svn}")
    elif quote.qe_svn or quote.pce_svn:
        yield word_line("header bytes 8 to 11", f"{quote.qe_svn} and {quote.pce_svn}, reserved in this version")
    if quote.padding:
        yield word_line("padding", f"{quote.padding} zero bytes after the quote")
    yield word_line("signed part, SHA-256", quote.signed_sha256.hex())
    if isinstance(quote.body, TdReportBody):
        yield from _td_lines(quote.body)
        for name, value in quote.body.extended:
            yield from byte_lines(name, bytes.fromhex(value))
    else:
        yield from ("", "enclave")
        yield from _enclave_lines(quote.body)
        yield from byte_lines(
            "report_data", quote.body.report_data, "chosen by the enclave: what the quote is bound to"
        )
    yield from _qe_lines(quote)


def tdreport_lines(report: TdReportStruct) -> Iterator[str]:
    """A TDREPORT for people; first of all, what it is worth."""
    yield f"TDREPORT version {report.version}: its MAC means something on its own machine only"
    yield word_line("worth", "proves nothing to a remote party; only a quote made from it does")
    for name, fits in (("TEE_TCB_INFO", report.tee_tcb_info_hash_fits), ("TDINFO", report.tee_info_hash_fits)):
        yield word_line(f"{name} hash", "fits" if fits else "does NOT fit: the bytes are damaged")
    yield from byte_lines("cpusvn", report.cpusvn)
    yield from byte_lines("mac", report.mac)
    yield from byte_lines("tcb_info_valid", report.tcb_info_valid, "which fields the module filled in")
    yield from _td_lines(report)
    if any(report.newer):
        yield from byte_lines("added in version 2", report.newer)


def _td_lines(body: TdReportBody | TdReportStruct) -> Iterator[str]:
    yield from ("", "trust domain")
    yield from byte_lines("mrtd", body.mrtd, "launch digest: the firmware image")
    for index, (value, meaning) in enumerate(zip(body.rtmrs, _RTMRS, strict=True)):
        yield from byte_lines(f"rtmr{index}", value, f"measured while it ran: {meaning}")
    yield from byte_lines("report_data", body.report_data, "chosen by the guest: what the quote is bound to")
    yield from byte_lines("mrconfigid", body.mrconfigid, f"{_HOST}: configuration, not measured code")
    yield from byte_lines("mrowner", body.mrowner, _HOST)
    yield from byte_lines("mrownerconfig", body.mrownerconfig, _HOST)
    if body.mrservicetd is not None:
        yield from byte_lines("mrservicetd", body.mrservicetd, "hash of the service TDs bound to it")
    yield from ("", f"TD attributes {body.td_attributes:#x}, chosen at launch")
    yield from bit_lines(body.td_attributes, TD_BITS, _known(TD_BITS))
    yield from ("", f"XFAM {body.xfam:#x}: processor features the TD may use")
    yield from (f"    {line}" for line in textwrap.wrap(", ".join(body.xfam.names), 92))
    yield from ("", "TDX module")
    yield word_line("version", f"{body.tee_tcb_svn[1]}, SVN {body.tee_tcb_svn[0]}")
    yield from byte_lines("tee_tcb_svn", body.tee_tcb_svn, "module and other parts when the TD was launched")
    if body.tee_tcb_svn2 is not None:
        yield from byte_lines("tee_tcb_svn2", body.tee_tcb_svn2, "module that runs now")
    yield from byte_lines("mrseam", body.mrseam, "hash of the module")
    yield from byte_lines("mrsignerseam", body.mrsignerseam, "its signer: zero is Intel")
    yield word_line("seamattributes", f"{body.seamattributes:#x}   must be zero in production")


def _enclave_lines(body: SgxReportBody) -> Iterator[str]:
    yield from byte_lines("mrenclave", body.mrenclave, "the enclave's code")
    yield from byte_lines("mrsigner", body.mrsigner, "who signed it")
    yield word_line("isvprodid", f"{body.isvprodid}   product of that signer")
    yield word_line("isvsvn", f"{body.isvsvn}   its security version")
    for name in ("isvextprodid", "isvfamilyid", "configid"):
        if any(getattr(body, name)):
            yield from byte_lines(name, getattr(body, name))
    if body.configsvn:
        yield word_line("configsvn", str(body.configsvn))
    yield from byte_lines("cpusvn", body.cpusvn)
    yield word_line("miscselect", f"{body.miscselect:#010x}")
    yield word_line("attributes", f"{body.attributes:#x}   {', '.join(body.attributes.names)}")
    yield word_line("xfrm", f"{body.xfrm:#x}")


def _qe_lines(quote: Quote) -> Iterator[str]:
    yield from ("", "quoting enclave, whose key signed")
    yield from _enclave_lines(quote.qe_report)
    bound = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest() == quote.qe_report.report_data[:32]
    says = "names the attestation key" if bound else "does NOT name the attestation key"
    yield from byte_lines("report_data", quote.qe_report.report_data, says)
    yield word_line("auth_data", f"{len(quote.qe_auth_data)} bytes")
    certification = quote.certification
    yield word_line("certified by", f"type {certification.type}: {certification.name}")
    if certification.identity is not None:
        for name, value in _plain_identity(certification.identity).items():
            yield from (f"    {line}" for line in textwrap.wrap(f"{name} {value}", 92))


def _plain_identity(identity: PckIdentity) -> dict[str, object]:
    return {name: _plain(value) for name, value in identity._asdict().items()}


def _bits_json(value: Bits, names: NamedBits) -> dict[str, object]:
    return {**named_bits(value, names), "undefined_bits": set_bits(value & ~_known(names))}


def _known(names: NamedBits) -> int:
    return sum(1 << index for index, _, _ in names)


def _features(value: Xfam) -> dict[str, object]:
    return {"names": list(value.names), "undefined_bits": set_bits(value & ~Xfam.KNOWN)}


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Bits):
        return hex(value)
    if isinstance(value, tuple):
        if value and isinstance(value[0], tuple):
            return dict(value)
        return [_plain(item) for item in value]
    return value
