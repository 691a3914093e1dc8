"""The quote parser: every version and body, every length, every reserved byte, every type it must refuse by name."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.quote import MAX_QUOTE, Quote, parse_quote
from attest.evidence.sgx_report import SgxReportBody
from attest.evidence.td_report import TdReportBody
from tests.unit.attest.evidence.quotes import (
    BODY_SIZES,
    CHAIN,
    PEM,
    VENDOR,
    header,
    make_quote,
    qe_material,
    sgx_body,
)

KINDS = [(3, "sgx"), (4, "sgx"), (4, "1.0"), (5, "sgx"), (5, "1.0"), (5, "1.5"), (5, "1.5-extended")]
TD_FIELDS = {
    "tee_tcb_svn": (0, 16), "mrseam": (16, 48), "mrsignerseam": (64, 48), "seamattributes": (112, 8),
    "td_attributes": (120, 8), "xfam": (128, 8), "mrtd": (136, 48), "mrconfigid": (184, 48), "mrowner": (232, 48),
    "mrownerconfig": (280, 48), "report_data": (520, 64), "tee_tcb_svn2": (584, 16), "mrservicetd": (600, 48),
}  # fmt: skip
SGX_FIELDS = {
    "cpusvn": (0, 16), "miscselect": (16, 4), "isvextprodid": (32, 16), "attributes": (48, 8), "xfrm": (56, 8),
    "mrenclave": (64, 32), "mrsigner": (128, 32), "configid": (192, 64), "isvprodid": (256, 2), "isvsvn": (258, 2),
    "configsvn": (260, 2), "isvfamilyid": (304, 16), "report_data": (320, 64),
}  # fmt: skip
SGX_RESERVED = [(20, 32), (96, 128), (160, 192), (262, 304)]
EXTENDED = {
    "vmid": (648, 1), "td_id": (649, 32), "devinfo": (681, 48), "init_servtd_hash": (729, 48),
    "init_servtd_attr": (777, 8), "init_cpusvn": (785, 16), "init_tee_tcb_svn": (801, 16),
    "init_tee_fmspc": (817, 12), "cur_servtd_hash": (829, 48), "cur_servtd_attr": (877, 8),
}  # fmt: skip


def _counting(size: int) -> bytes:
    return bytes((index * 7 + index // 251 + 1) % 256 for index in range(size))


def _field(raw: bytes, place: tuple[int, int], got: object) -> object:
    value = raw[place[0] : sum(place)]
    return value if isinstance(got, bytes) else int.from_bytes(value, "little")


@pytest.mark.parametrize(("version", "layout"), KINDS)
def test_a_quote_keeps_what_was_signed_and_where_it_ended(version: int, layout: str) -> None:
    data = make_quote(version, layout)
    quote = parse_quote(data + bytes(70))
    body = 54 if version == 5 else 48
    assert (quote.raw, quote.padding) == (data, 70)
    assert quote.signed == data[: body + BODY_SIZES[layout]]
    assert quote.signed_sha256 == hashlib.sha256(quote.signed).digest()
    assert (quote.version, quote.body_type, quote.is_tdx) == (version, layout, layout != "sgx")
    assert (quote.qe_vendor_id, quote.user_data) == (VENDOR, bytes(range(20)))
    assert (quote.signature, quote.attestation_key) == (b"S" * 64, b"K" * 64)
    assert (quote.qe_report_signature, quote.qe_auth_data) == (b"Q" * 64, b"a" * 32)
    assert (quote.qe_report.isvsvn, quote.qe_report.raw) == (7, sgx_body(isvsvn=b"\x07\0"))
    assert (quote.certification.type, quote.certification.data) == (5, CHAIN)
    assert quote.certification.certificates() == (b"\x30\x00",) * 3


@pytest.mark.parametrize("layout", ["1.0", "1.5", "1.5-extended"])
def test_every_field_of_a_td_report_is_read_from_its_place(layout: str) -> None:
    raw = _counting(BODY_SIZES[layout])
    body = parse_quote(make_quote(5, layout, body=raw)).body
    assert isinstance(body, TdReportBody)
    for name, place in TD_FIELDS.items():
        got = getattr(body, name)
        assert got == (None if sum(place) > len(raw) else _field(raw, place, got)), name
    assert body.rtmrs == tuple(raw[at : at + 48] for at in (328, 376, 424, 472))
    expected = {name: raw[at : at + size].hex() for name, (at, size) in EXTENDED.items()}
    assert dict(body.extended) == (expected if layout == "1.5-extended" else {})
    assert body.raw == raw


def test_every_field_of_an_sgx_report_is_read_from_its_place() -> None:
    raw = bytearray(_counting(384))
    for start, end in SGX_RESERVED:
        raw[start:end] = bytes(end - start)
    body = parse_quote(make_quote(3, "sgx", body=bytes(raw))).body
    assert isinstance(body, SgxReportBody)
    for name, place in SGX_FIELDS.items():
        got = getattr(body, name)
        assert got == _field(bytes(raw), place, got), name
    assert body.attributes_raw == raw[48:64]
    assert {field.name for field in fields(body)} == {*SGX_FIELDS, "raw"}


@pytest.mark.parametrize("version", [3, 4])
def test_a_reserved_byte_of_an_sgx_report_that_is_not_zero_is_refused(version: int) -> None:
    data = make_quote(version, "sgx")
    qe = 48 + 384 + 4 + 128 + (0 if version == 3 else 6)
    for start in (48, qe):
        for span in SGX_RESERVED:
            for offset in range(*span):
                changed = bytearray(data)
                changed[start + offset] = 1
                with pytest.raises(EvidenceMalformed, match="must be zero"):
                    parse_quote(bytes(changed))


@pytest.mark.parametrize("version", [0, 1, 2, 6, 0xFFFF])
def test_another_version_is_refused_by_its_number(version: int) -> None:
    with pytest.raises(EvidenceUnsupported, match=f"version at 0x0 is {version}, want 3, 4 or 5"):
        parse_quote(make_quote(head=header(version, 0x81)))


@pytest.mark.parametrize(
    ("key_type", "name"), [(0, "EPID unlinkable"), (1, "EPID"), (3, "ECDSA P-384"), (9, "unknown")]
)
def test_another_attestation_key_type_is_refused_by_name(key_type: int, name: str) -> None:
    with pytest.raises(EvidenceUnsupported, match=name):
        parse_quote(make_quote(head=header(4, 0x81, key_type)))


@pytest.mark.parametrize("tee_type", [1, 0x80, 0x82, 0xFFFFFFFF])
def test_another_tee_type_is_refused(tee_type: int) -> None:
    with pytest.raises(EvidenceUnsupported, match=f"0x{tee_type:x}, want 0x0"):
        parse_quote(make_quote(head=header(5, tee_type)))


def test_version_3_knows_no_tee_but_sgx() -> None:
    with pytest.raises(EvidenceMalformed, match=r"0x4\.\.0x8 must be zero in version 3, got 0x81"):
        parse_quote(make_quote(3, "sgx", head=header(3, 0x81)))


@pytest.mark.parametrize("code", [0, 5, 9, 0xFFFF])
def test_an_unknown_body_type_is_refused_by_its_number(code: int) -> None:
    data = bytearray(make_quote(5, "1.5"))
    data[48:50] = struct.pack("<H", code)
    with pytest.raises(EvidenceUnsupported, match=f"body type at 0x30 is {code}"):
        parse_quote(bytes(data))


@pytest.mark.parametrize(("layout", "code"), [("1.5", 1), ("sgx", 3), ("sgx", 2)])
def test_a_body_type_of_the_other_tee_is_refused(layout: str, code: int) -> None:
    data = bytearray(make_quote(5, layout))
    data[48:50] = struct.pack("<H", code)
    with pytest.raises(EvidenceMalformed, match="does not fit TEE type"):
        parse_quote(bytes(data))


@pytest.mark.parametrize(("code", "size"), [(2, 648), (3, 584), (3, 647), (3, 649), (4, 648), (3, 0), (3, 0xFFFFFFFF)])
def test_a_body_size_that_does_not_fit_its_type_is_refused(code: int, size: int) -> None:
    data = bytearray(make_quote(5, "1.5"))
    data[48:54] = struct.pack("<HI", code, size)
    with pytest.raises(EvidenceMalformed, match=f"body size at 0x32 is {size}"):
        parse_quote(bytes(data))


@pytest.mark.parametrize(("version", "layout"), KINDS)
def test_a_quote_cut_short_anywhere_is_refused(version: int, layout: str) -> None:
    data = make_quote(version, layout)
    for length in range(len(data)):
        with pytest.raises(EvidenceMalformed):
            parse_quote(data[:length])


@pytest.mark.parametrize("difference", [-1, 1, 2**31])
def test_signature_data_of_another_size_than_stated_are_refused(difference: int) -> None:
    right = len(make_quote()) - 636
    with pytest.raises(EvidenceMalformed):
        parse_quote(make_quote(size=right + difference))


def test_what_follows_a_quote_must_be_zero() -> None:
    assert parse_quote(make_quote(tail=bytes(3065))).padding == 3065
    with pytest.raises(EvidenceMalformed, match=r"padding at 0x.* must be zero, got 00000001"):
        parse_quote(make_quote(tail=b"\0\0\0\1"))


def test_a_quote_larger_than_64_kib_is_refused() -> None:
    data = make_quote()
    assert parse_quote(data + bytes(MAX_QUOTE - len(data))).padding
    with pytest.raises(EvidenceMalformed, match=f"want at most {MAX_QUOTE}"):
        parse_quote(data + bytes(MAX_QUOTE - len(data) + 1))


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("outer", [0, 1, 5, 7])
def test_the_outer_certification_data_must_wrap_the_qe_report(version: int, outer: int) -> None:
    with pytest.raises(EvidenceMalformed, match=f"type is {outer}, want 6"):
        parse_quote(make_quote(version, outer=outer))


@pytest.mark.parametrize(("version", "layout"), [(3, "sgx"), (4, "1.0"), (5, "1.5")])
@pytest.mark.parametrize(("kind", "name"), [(0, "unknown"), (6, "QE report"), (7, "platform manifest"), (8, "unknown")])
def test_certification_data_of_another_type_are_refused_by_name(
    version: int, layout: str, kind: int, name: str
) -> None:
    with pytest.raises(EvidenceUnsupported, match=rf"type {kind} \({name}"):
        parse_quote(make_quote(version, layout, material=qe_material(kind)))


@pytest.mark.parametrize(("version", "layout"), [(3, "sgx"), (4, "1.0"), (5, "1.5")])
def test_bytes_behind_the_inner_certification_data_are_refused(version: int, layout: str) -> None:
    with pytest.raises(EvidenceMalformed, match="1 bytes follow"):
        parse_quote(make_quote(version, layout, material=qe_material(after=b"\0")))


@pytest.mark.parametrize("size", [0, 1, 31, 33, 60000])
def test_authentication_data_may_have_any_length(size: int) -> None:
    assert len(parse_quote(make_quote(material=qe_material(auth=b"a" * size))).qe_auth_data) == size


@pytest.mark.parametrize(("kind", "ppid"), [(1, 16), (2, 256), (3, 384)])
def test_types_1_to_3_are_read_completely(kind: int, ppid: int) -> None:
    data = b"P" * ppid + b"C" * 16 + b"\x0d\x01" + b"\x12\x34"
    found = parse_quote(make_quote(material=qe_material(kind, data))).certification
    assert found.identity == (b"P" * ppid, kind != 1, b"C" * 16, 0x10D, b"\x12\x34")
    assert found.certificates() == ()
    for wrong in (data[:-1], data + b"\0"):
        with pytest.raises(EvidenceMalformed, match=f"certification data type {kind}"):
            parse_quote(make_quote(material=qe_material(kind, wrong)))


def test_type_1_may_end_before_its_pceid() -> None:
    found = parse_quote(make_quote(material=qe_material(1, b"P" * 16 + b"C" * 16 + b"\x0d\0"))).certification
    assert found.identity is not None
    assert found.identity.pceid is None
    with pytest.raises(EvidenceMalformed, match="pceid"):
        parse_quote(make_quote(material=qe_material(2, b"P" * 256 + b"C" * 16 + b"\x0d\0")))


def test_type_4_holds_one_certificate() -> None:
    assert parse_quote(make_quote(material=qe_material(4, PEM))).certification.certificates() == (b"\x30\x00",)
    with pytest.raises(EvidenceMalformed, match="2 certificates in type 4"):
        parse_quote(make_quote(material=qe_material(4, PEM * 2))).certification.certificates()


@pytest.mark.parametrize(
    ("chain", "why"),
    [
        (b"", "no PEM block"),
        (b"\n\0\0", "no PEM block"),
        (b"0" * 900, "want a PEM block"),
        (PEM + b"text\n" + PEM, "at 0x3B"),
        (PEM + b" " + PEM, "at 0x3B"),
        (b"\0" + PEM, "at 0x0"),
        (PEM.replace(b"MAA=", b"MAB="), "stray bits"),
        (PEM.replace(b"MAA=", b"MAA"), "not base64"),
        (PEM.replace(b"MAA=\n", b"MA\x0bA=\n"), "want a PEM block"),
        (PEM.replace(b"MAA=\n", b"MAA= \n"), "want a PEM block"),
        (PEM.replace(b"CERTIFICATE", b"X509 CRL"), "PEM block X509 CRL"),
        (PEM[:-10], "want a PEM block"),
        (PEM * 11, "more than 10 PEM blocks"),
    ],
)
def test_a_chain_that_is_not_clean_pem_is_refused(chain: bytes, why: str) -> None:
    with pytest.raises(EvidenceMalformed, match=why):
        parse_quote(make_quote(material=qe_material(5, chain))).certification.certificates()


def test_a_chain_may_have_either_line_end_and_keeps_its_order() -> None:
    other = PEM.replace(b"MAA=", b"BQA=").replace(b"\n", b"\r\n")
    found = parse_quote(make_quote(material=qe_material(5, other + PEM[:-1]))).certification.certificates()
    assert found == (b"\x05\x00", b"\x30\x00")


def _outcome(data: bytes) -> Quote | None:
    try:
        return parse_quote(data)
    except EvidenceMalformed:
        return None


@settings(max_examples=300)
@given(st.data())
def test_flipped_quotes_parse_to_their_own_bytes_or_are_malformed(data: st.DataObject) -> None:
    version, layout = data.draw(st.sampled_from(KINDS))
    raw = bytearray(make_quote(version, layout))
    for offset in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=4)):
        raw[offset] ^= 1 << data.draw(st.integers(0, 7))
    quote = _outcome(bytes(raw))
    assert quote is None or quote.raw + bytes(quote.padding) == bytes(raw)


RENAMED = {
    "mr_config_id": "mrconfigid", "mr_owner": "mrowner", "mr_owner_config": "mrownerconfig",
    "mr_service_td": "mrservicetd", "seam_attributes": "seamattributes",
}  # fmt: skip


def _facts_of(quote: Quote) -> dict[str, object]:
    """What the vectors' own reader says about a quote, from ours."""
    body, certification = quote.body, quote.certification
    facts: dict[str, object] = {
        "version": quote.version,
        "tee_type": "TDX" if quote.is_tdx else "SGX",
        "att_key_type": quote.attestation_key_type,
        "qe_svn_bytes_8_9": quote.qe_svn,
        "pce_svn_bytes_10_11": quote.pce_svn,
        "header_user_data": quote.user_data.hex(),
        "cert_data_types": [certification.type] if quote.version == 3 else [6, certification.type],
        "auth_data_len": len(quote.qe_auth_data),
        "signature_data_len": len(quote.raw) - len(quote.signed) - 4,
        "trailing_bytes": quote.padding,
        "chain_certs": len(certification.certificates()),
        "cert_data_ends_with_nul": certification.data.endswith(b"\0"),
        "embedded_root_der_sha256": hashlib.sha256(certification.certificates()[-1]).hexdigest(),
        "qe": _sgx_facts(quote.qe_report, ("mrsigner", "isvprodid", "isvsvn", "attributes", "miscselect")),
        "debug": body.td_attributes.debug if isinstance(body, TdReportBody) else body.attributes.debug,
    }
    if isinstance(body, SgxReportBody):
        names = ("cpusvn", "miscselect", "attributes", "mrenclave", "mrsigner", "isvprodid", "isvsvn", "report_data")
        return facts | _sgx_facts(body, names)
    facts |= {name: body.raw[at : at + size].hex() for name, (at, size) in TD_FIELDS.items() if at < len(body.raw)}
    facts |= {f"rtmr{index}": value.hex() for index, value in enumerate(body.rtmrs)}
    return facts | {"sept_ve_disable": body.td_attributes.sept_ve_disable}


def _sgx_facts(body: SgxReportBody, names: tuple[str, ...]) -> dict[str, object]:
    facts: dict[str, object] = {}
    for name in names:
        value = getattr(body, name)
        facts[name] = value.hex() if isinstance(value, bytes) else value
    facts["attributes"], facts["miscselect"] = body.attributes_raw.hex(), body.miscselect.to_bytes(4, "little").hex()
    return facts


def test_every_real_quote_reads_as_it_is_known_to_be(vectors: Path) -> None:
    entries = json.loads((vectors / "tdx" / "manifest.json").read_bytes())["entries"]
    listed = [entry for entry in entries if entry["kind"] == "quote"]
    assert len(listed) >= 30
    for entry in listed:
        data = (vectors / "tdx" / entry["file"]).read_bytes()
        if entry["file"] == "quotes/tdx4-gotdxguest-spr.bin":  # carries text after its signature data
            with pytest.raises(EvidenceMalformed, match="padding at 0x1347"):
                parse_quote(data)
            data = data[:0x1347] + bytes(39)
        known = {RENAMED.get(name, name): value for name, value in entry["facts"].items()}
        found = _facts_of(parse_quote(data))
        assert {name: known[name] for name in found if name in known} == {
            name: value for name, value in found.items() if name in known
        }, entry["file"]
        assert len(found.keys() & known.keys()) >= 18, entry["file"]


UNREADABLE = {
    "cd-type-0", "cd-type-1", "cd-len-huge", "cd-len-plus1", "outer-cd-len-minus1", "outer-cd-type-5", "empty",
    "header-akt-p384", "header-tee-sgx", "header-tee-unknown", "header-version-2", "header-version-6", "siglen-huge",
    "siglen-minus1", "trailing-garbage", "truncated-half", "truncated-header", "bodysize-584", "bodytype-1",
    "bodytype-2", "bodytype-4", "bodytype-9",
}  # fmt: skip
"""Changes that the parser refuses; all others are the verifier's to find."""


def test_altered_quotes_are_unreadable_exactly_where_their_structure_was_altered(vectors: Path) -> None:
    found = sorted((vectors / "tdx" / "quotes-altered").glob("*.bin"))
    assert len(found) >= 50
    for path in found:
        unreadable = path.stem.split("--")[1] in UNREADABLE
        assert (_outcome(path.read_bytes()) is None) == unreadable, path.stem
