"""Quotes no parser may accept: one field of an otherwise good quote, signed as it stands where it is signed."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import cache

from attest.emulator.td_pki import QuoteKeys, QuoteParts, build_quote, pem_chain, td_body
from tests.fakes.intel_pki import TD, FakeIntelPki, QuoteInputs, key_of

_QUOTE = "Intel TDX DCAP Quoting Library API, A.3"
BAD, UNSUPPORTED = "evidence.malformed", "evidence.unsupported"


@dataclass(frozen=True)
class MalformedCase:
    """``code`` is how our command refuses it."""

    name: str
    code: str
    clause: str
    quote: bytes

    def inputs(self) -> QuoteInputs:
        """With the good collateral."""
        return replace(FakeIntelPki().inputs(), evidence=self.quote)


def _patched(raw: bytes, offset: int, data: bytes) -> bytes:
    return raw[:offset] + data + raw[offset + len(data) :]


def _sized(raw: bytes, more: int) -> bytes:
    """The signature data say they are this much longer."""
    (size,) = struct.unpack_from("<I", raw, 632)
    return _patched(raw, 632, struct.pack("<I", size + more))


def _version(number: int) -> bytes:
    parts = QuoteParts(number, td_body("1.0", TD), "1.0", {}, pem_chain(*FakeIntelPki().chain))
    return build_quote(parts, QuoteKeys(key_of("PCK"), key_of("attestation")))


@cache
def malformed_cases() -> tuple[MalformedCase, ...]:
    """All of them; made on first use, because keys are."""
    good, newer, sgx = (
        FakeIntelPki(version=version, layout=layout).raw for version, layout in ((4, "1.0"), (5, "1.5"), (3, "sgx"))
    )
    cases = [
        ("quote_one_byte_short", BAD, f"{_QUOTE}: lengths enclose exactly what is inside", good[:-1]),
        ("quote_of_version_6", BAD, f"{_QUOTE}: version; recognised by nobody", _version(6)),
        ("quote_with_something_behind", BAD, "bytes that nobody signs are zeros or not there", good + b"\1"),
        ("quote_whose_signature_data_are_too_long", BAD, f"{_QUOTE}: signature data size", _sized(good, 1)),
        ("quote_whose_signature_data_are_too_short", BAD, f"{_QUOTE}: signature data size", _sized(good, -1)),
        ("quote_of_another_tee", BAD, f"{_QUOTE}: TEE type is 0 or 0x81; recognised by nobody", _patched(good, 4, b"\1")),
        ("quote_not_wrapped_in_type_6", BAD, f"{_QUOTE}: version 4 wraps the QE report", _patched(good, 764, b"\5")),
        ("quote_with_a_reserved_byte_in_the_qe_report", BAD, "Intel SGX report body: reserved", _patched(good, 770 + 20, b"\1")),
        ("quote_5_of_an_unknown_body", UNSUPPORTED, f"{_QUOTE}: body type is 1 to 4", _patched(newer, 48, b"\5")),
        ("quote_5_whose_body_size_is_another_types", BAD, f"{_QUOTE}: body size", _patched(newer, 50, struct.pack("<I", 584))),
        ("quote_5_of_an_enclave_in_the_name_of_a_td", BAD, f"{_QUOTE}: body type fits the TEE type", _patched(newer, 48, b"\1")),
        ("quote_3_of_a_td", BAD, "Intel SGX ECDSA Quote Library API, A.4: reserved in version 3", _patched(sgx, 4, b"\x81")),
    ]  # fmt: skip
    return tuple(MalformedCase(*case) for case in cases)
