"""One file of a collateral folder: what it holds of Intel's, by content.

Read are answers of Intel's service as they were served (``{"tcbInfo": …}``, ``{"enclaveIdentity": …}``), issuer chains
in PEM, certificates and lists in DER, lists in the hexadecimal text that a PCCS serves, bundles of ``attest
collateral``, and JSON objects whose members hold all of these as text, which is how verification libraries keep
collateral:

    {"tcb_info": "<text of the signed object>", "tcb_info_signature": "<128 hex digits>",
     "tcb_info_issuer_chain": "<PEM>", "qe_identity": …, "root_ca_crl": "<hex>", "pck_crl": "<hex>", …}

A member's *content* says what it is; its name counts only to find the signature that belongs to it. Other vendors'
things are passed over; what is Intel's by its looks and does not parse is kept as an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from attest.evidence.bundle import MAX_BUNDLE, looks_like_bundle, parse_bundle
from attest.evidence.collateral_file import MAX_DAMAGED
from attest.evidence.der import split_sequences
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.intel_certificate import IntelCertificate, IntelCrl, UnrelatedIntelCertificate
from attest.evidence.intel_json import (
    QeIdentity,
    TcbInfo,
    parse_qe_identity,
    parse_tcb_info,
    qe_identity_of,
    tcb_info_of,
)
from attest.evidence.pem import CERTIFICATE, CRL, looks_like_pem, parse_pem
from policy.strictjson import strict_json

IntelThing = IntelCertificate | IntelCrl | TcbInfo | QeIdentity | EvidenceMalformed

_HEX = re.compile(rb"\s*+30[0-9a-fA-F]++\s*+")  # possessive: megabytes of digits are passed over once
_SIGNATURE = re.compile(r"[0-9a-fA-F]{128}")
_SEQUENCE_LONG = (b"\x30\x81", b"\x30\x82", b"\x30\x83")  # text may begin with a zero, which is 0x30 too
_MAX_DEPTH = 3
_T = TypeVar("_T", IntelCertificate, IntelCrl, TcbInfo, QeIdentity)


@dataclass(frozen=True, slots=True)
class IntelFile:
    """What was found, unverified; ``damaged`` are errors of things that look like Intel's."""

    certificates: tuple[IntelCertificate, ...] = ()
    crls: tuple[IntelCrl, ...] = ()
    tcb_infos: tuple[TcbInfo, ...] = ()
    qe_identities: tuple[QeIdentity, ...] = ()
    damaged: tuple[EvidenceMalformed, ...] = ()


def read_intel_file(data: bytes) -> IntelFile:
    """Never raises: a folder may hold anything."""
    found: list[IntelThing] = []
    damaged = 0
    for item in _things(data):
        found.append(item)
        damaged += isinstance(item, EvidenceMalformed)
        if damaged > MAX_DAMAGED:
            break
    return IntelFile(
        tuple(item for item in found if isinstance(item, IntelCertificate)),
        tuple(item for item in found if isinstance(item, IntelCrl)),
        tuple(item for item in found if isinstance(item, TcbInfo)),
        tuple(item for item in found if isinstance(item, QeIdentity)),
        tuple(item for item in found if isinstance(item, EvidenceMalformed)),
    )


def _things(data: bytes, depth: int = 0) -> Iterator[IntelThing]:
    """Everything in ``data``, which is a file or the text of a JSON member. Text may end in zeros, because Intel's
    libraries count a string's NUL as part of it.
    """
    text = data.rstrip(b"\0")
    if text.lstrip()[:1] == b"{":
        yield from _of_json(text, depth)
    elif looks_like_pem(text):
        yield from _of_pem(text)
    elif _HEX.fullmatch(text):
        yield from _of_hex(text)
    elif data[:2] in _SEQUENCE_LONG:
        yield from _of_der(data)


def _of_hex(data: bytes) -> Iterator[IntelThing]:
    digits = data.strip().decode("ascii")
    if len(digits) % 2 == 0:  # else it only looks like hexadecimal
        yield from _of_der(bytes.fromhex(digits))


def _of_json(data: bytes, depth: int) -> Iterator[IntelThing]:
    """An answer as it was served, a bundle, or an object of texts."""
    if looks_like_bundle(data):
        yield from _of_bundle(data) if depth == 0 else ()
        return
    try:
        value = strict_json(data, "collateral", max_bytes=MAX_BUNDLE, error=EvidenceMalformed)
    except EvidenceMalformed as exc:
        if b'"tcbInfo"' in data or b'"enclaveIdentity"' in data or b'"tcb_info"' in data:
            yield exc
        return
    if not isinstance(value, dict):
        return
    if "tcbInfo" in value and not isinstance(value["tcbInfo"], str):
        yield from _try(parse_tcb_info, data)
    elif "enclaveIdentity" in value and not isinstance(value["enclaveIdentity"], str):
        if not _is_of_qve(value["enclaveIdentity"]):
            yield from _try(parse_qe_identity, data)
    else:
        yield from _of_members(value, depth)


def _is_of_qve(identity: object) -> bool:
    """The identity of the enclave in which a verifier may run says nothing about quotes."""
    return isinstance(identity, dict) and identity.get("id") == "QVE"


def _of_members(value: dict[str, object], depth: int) -> Iterator[IntelThing]:
    if depth == _MAX_DEPTH:
        return
    signatures = {name: key for name in value for key in _signature_names(name) if key in value}
    for name, member in value.items():
        if name in signatures.values():
            continue
        if isinstance(member, dict):
            yield from _of_members(member, depth + 1)
        elif isinstance(member, str) and name in signatures:
            yield from _signed(member.rstrip("\0").encode("utf-8", "replace"), value[signatures[name]])
        elif isinstance(member, str):
            yield from _things(member.encode("utf-8", "replace"), depth + 1)


def _signature_names(name: str) -> tuple[str, str]:
    return f"{name}_signature", f"{name}Signature"


def _signed(text: bytes, signature: object) -> Iterator[IntelThing]:
    """The signed object and its signature, carried apart."""
    if not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature):
        yield EvidenceMalformed(f"collateral: signature {str(signature)[:40]!r}, want 128 hex digits")
    elif b'"tcbLevels"' in text and b'"fmspc"' in text:
        yield from _try(lambda signed: tcb_info_of(signed, bytes.fromhex(signature)), text)
    elif b'"tcbLevels"' in text and b'"mrsigner"' in text:
        yield from _try(lambda signed: qe_identity_of(signed, bytes.fromhex(signature)), text)


def _of_bundle(data: bytes) -> Iterator[IntelThing]:
    try:
        items = parse_bundle(data)
    except EvidenceMalformed as exc:
        yield exc
        return
    for item in items:
        for part in item.parts:
            yield from _things(part, _MAX_DEPTH)


def _of_pem(data: bytes) -> Iterator[IntelThing]:
    try:
        blocks = parse_pem(data)
    except EvidenceMalformed as exc:
        yield exc
        return
    for block in blocks:
        if block.label == CERTIFICATE:
            yield from _try(IntelCertificate.parse, block.data)
        elif block.label == CRL:
            yield from _try(IntelCrl.parse, block.data)


def _of_der(data: bytes) -> Iterator[IntelThing]:
    """One or several laid end to end; nothing that is not a certificate says which of the two it was to be."""
    try:
        parts = split_sequences(data, "certificates")
    except EvidenceMalformed as exc:
        yield exc
        return
    for part in parts:
        found: list[IntelThing] = list(_try(IntelCertificate.parse, part))
        if found and isinstance(found[0], EvidenceMalformed):
            found = list(_try(IntelCrl.parse, part))
        yield from found


def _try(parse: Callable[[bytes], _T], data: bytes) -> Iterator[_T | EvidenceMalformed]:
    """The thing or the error; nothing for another vendor's."""
    try:
        yield parse(data)
    except UnrelatedIntelCertificate:
        return
    except EvidenceMalformed as exc:
        yield exc
