"""TCB info and QE identity: the signed text is found as it stands, and every member is of its type."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from attest.emulator.td_pki import compact
from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.intel_json import (
    MAX_JSON,
    QE,
    SGX,
    TD_QE,
    TDX,
    parse_qe_identity,
    parse_tcb_info,
    qe_identity_of,
    tcb_info_of,
)
from policy.tdx import TcbStatus
from tests.fakes.intel_pki import CURRENT, QE_SVN, TD_QE_SIGNER, TEE_TCB_SVN, FakeIntelPki, isv, level, module

WORLD = FakeIntelPki()
SIGNATURE = "ab" * 64
Change = Callable[[dict[str, Any]], object]


def tcb_info(change: Change = lambda value: None) -> bytes:
    """An answer whose inner object ``change`` changed; nobody signed it."""
    value = json.loads(compact(WORLD.tcb_info_object))
    change(value)
    return compact({"tcbInfo": value, "signature": SIGNATURE}).encode()


def identity(change: Change = lambda value: None) -> bytes:
    value = json.loads(compact(WORLD.qe_identity_object))
    change(value)
    return compact({"enclaveIdentity": value, "signature": SIGNATURE}).encode()


def test_tcb_info_is_read() -> None:
    found = parse_tcb_info(tcb_info())
    assert (found.id, found.version, found.number) == (TDX, 3, 20)
    assert (found.issued, found.next_update) == CURRENT
    assert (found.fmspc.hex(), found.pceid) == ("50806f000000", b"\0\0")
    assert found.signed == compact(WORLD.tcb_info_object).encode()
    assert found.signature == bytes.fromhex(SIGNATURE)
    assert [item.status for item in found.levels] == [TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE]
    assert found.levels[0].tdx == tuple(TEE_TCB_SVN)
    assert found.levels[1].advisories == ("INTEL-SA-01036",)
    assert found.levels[1].date == datetime(2024, 3, 13, tzinfo=UTC)
    assert found.module is not None
    assert found.module.mask == b"\xff" * 8
    assert [(item.id, item.levels[0].isvsvn) for item in found.modules] == [("TDX_01", 5)]


def test_tcb_info_of_sgx_has_no_tdx_parts() -> None:
    found = parse_tcb_info(FakeIntelPki(version=3, layout="sgx").tcb_info_json)
    assert found.id == SGX
    assert found.module is None
    assert found.modules == ()
    assert found.levels[0].tdx == ()


def test_version_2_names_every_component() -> None:
    def older(value: dict[str, Any]) -> None:
        del value["id"], value["tdxModule"], value["tdxModuleIdentities"]
        tcb = {f"sgxtcbcomp{n:02}svn": n for n in range(1, 17)}
        value.update(version=2, tcbLevels=[{**value["tcbLevels"][0], "tcb": {**tcb, "pcesvn": 13}}])

    found = parse_tcb_info(tcb_info(older))
    assert (found.version, found.id) == (2, SGX)
    assert found.levels[0].sgx == tuple(range(1, 17))


def test_qe_identity_is_read() -> None:
    found = parse_qe_identity(identity())
    assert (found.id, found.version, found.number, found.isvprodid) == (TD_QE, 2, 20, 2)
    assert found.mrsigner == TD_QE_SIGNER
    assert (found.miscselect, found.miscselect_mask) == (0, 0xFFFFFFFF)
    assert found.attributes == b"\x11" + bytes(15)
    assert found.attributes_mask[:2] == b"\xfb\xff"
    assert [item.isvsvn for item in found.levels] == [QE_SVN, 4]
    assert parse_qe_identity(FakeIntelPki(version=3, layout="sgx").qe_identity_json).id == QE


def test_miscselect_is_read_as_the_bytes_of_memory() -> None:
    assert parse_qe_identity(identity(lambda value: value.update(miscselect="01000000"))).miscselect == 1


def test_levels_come_out_best_first_whatever_their_order() -> None:
    def turn(value: dict[str, Any]) -> None:
        value["tcbLevels"].reverse()

    assert parse_tcb_info(tcb_info(turn)).levels == parse_tcb_info(tcb_info()).levels
    assert parse_qe_identity(identity(turn)).levels == parse_qe_identity(identity()).levels


def test_modules_are_known_by_their_name_in_any_case() -> None:
    found = parse_tcb_info(tcb_info(lambda value: value.update(tdxModuleIdentities=[module("tdx_0a")])))
    assert found.modules[0].id == "TDX_0A"


SPACED = (
    ' { "tcbInfo" : %s , "signature" : "%s" } ', '\n{"signature":"%s","tcbInfo":%s}\t',
    '{"tcbInfo":\r\n%s,\n"signature":\n"%s"}',
)  # fmt: skip


@pytest.mark.parametrize("text", SPACED)
def test_the_signed_text_is_found_between_any_spaces(text: str) -> None:
    inner = json.dumps(WORLD.tcb_info_object, indent=3)
    parts = (SIGNATURE, inner) if text.index("signature") < text.index("tcbInfo") else (inner, SIGNATURE)
    assert parse_tcb_info((text % parts).encode()).signed == inner.encode()


def test_the_signed_text_is_found_beside_the_same_words_in_strings() -> None:
    inner = compact({**WORLD.tcb_info_object, "note": '"tcbInfo":{"id":"SGX"}\\', "tcbInfo": {"signature": "00"}})
    found = parse_tcb_info(f'{{"tcbInfo":{inner},"signature":"{SIGNATURE}"}}'.encode())
    assert found.signed == inner.encode()
    assert found.id == TDX


def test_letters_beyond_ascii_stay_the_bytes_they_were() -> None:
    inner = json.dumps({**WORLD.tcb_info_object, "note": "é\U0001f600"}, ensure_ascii=False)
    assert parse_tcb_info(f'{{"tcbInfo":{inner},"signature":"{SIGNATURE}"}}'.encode()).signed == inner.encode()


def test_a_member_name_with_escapes_is_the_same_name() -> None:
    inner = compact(WORLD.tcb_info_object)
    assert parse_tcb_info(f'{{"tcbInf\\u006f":{inner},"signature":"{SIGNATURE}"}}'.encode()).signed == inner.encode()


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "{", '{"tcbInfo":{}}', '{"signature":"00"}', '{"tcbInfo":{},"signature":"00"}',
        '{"tcbInfo":[],"signature":"%s"}', '{"tcbInfo":{},"signature":"%s","more":1}', '{"tcbInfo":{},"signature":1}',
        '{"tcbInfo":{},"tcbInfo":{},"signature":"%s"}', '{"tcbInfo":{},"signature":"%sé"}', "\ufeff{}",
        '{"tcbInfo":{},"signature":"%s"}x',
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(EvidenceMalformed):
        parse_tcb_info(text.replace("%s", SIGNATURE).encode())


def test_a_member_that_appears_twice_is_refused_at_any_depth() -> None:
    text = tcb_info().decode()
    for name in ('"fmspc":', '"pcesvn":', '"svn":', '"tcbStatus":', '"mrsigner":'):
        with pytest.raises(EvidenceMalformed, match=r"twice|duplicate"):
            parse_tcb_info(text.replace(name, f'{name}"00",{name}', 1).encode())


def test_an_answer_of_more_than_a_megabyte_is_refused() -> None:
    with pytest.raises(EvidenceMalformed):
        parse_tcb_info(tcb_info() + b" " * MAX_JSON)


def test_members_that_are_new_are_tolerated_because_they_are_signed() -> None:
    assert parse_tcb_info(tcb_info(lambda value: value.update(tcbType=0, later={"a": [1, None]}))).number == 20


REQUIRED = ("version", "id", "issueDate", "nextUpdate", "fmspc", "pceId", "tcbEvaluationDataNumber", "tcbLevels")


@pytest.mark.parametrize("name", [*REQUIRED, "tdxModule"])
@pytest.mark.parametrize("value", [None, True, 1.0, "x", -1, [1], {}])
def test_a_member_of_tcb_info_that_is_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(EvidenceMalformed):
        parse_tcb_info(tcb_info(lambda found: found.update({name: value})))


@pytest.mark.parametrize("name", [*REQUIRED, "tdxModule"])
def test_tcb_info_without_a_member_is_refused(name: str) -> None:
    with pytest.raises(EvidenceMalformed):
        parse_tcb_info(tcb_info(lambda found: found.pop(name)))


@pytest.mark.parametrize("name", list(WORLD.qe_identity_object))
def test_qe_identity_without_a_member_is_refused(name: str) -> None:
    with pytest.raises(EvidenceMalformed):
        parse_qe_identity(identity(lambda found: found.pop(name)))


@pytest.mark.parametrize("name", list(WORLD.qe_identity_object))
@pytest.mark.parametrize("value", [None, True, 1.5, "0x", -1, {}])
def test_a_member_of_qe_identity_that_is_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(EvidenceMalformed):
        parse_qe_identity(identity(lambda found: found.update({name: value})))


@pytest.mark.parametrize(
    "change",
    [
        {"date": "2025-05-14"}, {"date": "2025-02-30T00:00:00Z"}, {"date": "2025-05-14T00:00:00+00:00"},
        {"date": "٢٠٢٥-05-14T00:00:00Z"}, {"sgx": (0,) * 15}, {"sgx": (0,) * 17}, {"sgx": (256, *(0,) * 15)},
        {"tdx": (0,) * 15}, {"pcesvn": 65536}, {"pcesvn": True}, {"status": "Fine"}, {"status": "uptodate"},
        {"advisories": ("",)}, {"advisories": ("x" * 65,)}, {"advisories": (5,)},
    ],
)  # fmt: skip
def test_a_level_with_one_wrong_value_is_refused(change: dict[str, Any]) -> None:
    wrong = level(**change)
    with pytest.raises(EvidenceMalformed):
        parse_tcb_info(tcb_info(lambda value: value.update(tcbLevels=[wrong])))


@pytest.mark.parametrize(
    "changes",
    [{"mrsigner": "00" * 32}, {"attributes": "0"}, {"attributesMask": "zz" * 8}, {"tcbLevels": {}}, {"id": 1}],
)
def test_a_module_with_one_wrong_value_is_refused(changes: dict[str, Any]) -> None:
    wrong = module(**{key: value for key, value in changes.items() if key != "id"})
    wrong.update(changes)
    with pytest.raises(EvidenceMalformed):
        parse_tcb_info(tcb_info(lambda value: value.update(tdxModuleIdentities=[wrong])))


@pytest.mark.parametrize("version", [1, 4])
def test_tcb_info_of_another_version_is_unsupported(version: int) -> None:
    with pytest.raises(EvidenceUnsupported, match="want 2 or 3"):
        parse_tcb_info(tcb_info(lambda value: value.update(version=version)))


def test_another_kind_is_unsupported() -> None:
    with pytest.raises(EvidenceUnsupported, match="want SGX or TDX"):
        parse_tcb_info(tcb_info(lambda value: value.update(id="TDX2")))
    with pytest.raises(EvidenceUnsupported, match="want QE or TD_QE"):
        parse_qe_identity(identity(lambda value: value.update(id="QVE")))
    with pytest.raises(EvidenceUnsupported, match="want 2"):
        parse_qe_identity(identity(lambda value: value.update(version=3)))


def test_a_thousand_levels_are_read_and_one_more_is_refused() -> None:
    many = [isv(n) for n in range(1000)]
    assert len(parse_qe_identity(identity(lambda value: value.update(tcbLevels=many))).levels) == 1000
    with pytest.raises(EvidenceMalformed, match="at most 1000"):
        parse_qe_identity(identity(lambda value: value.update(tcbLevels=[*many, isv(0)])))


def test_text_and_signature_that_came_apart_are_the_same_thing() -> None:
    info, qe = parse_tcb_info(tcb_info()), parse_qe_identity(identity())
    assert tcb_info_of(info.signed, info.signature) == info
    assert qe_identity_of(qe.signed, qe.signature) == qe
    with pytest.raises(EvidenceMalformed, match="want 64"):
        tcb_info_of(info.signed, info.signature[:-1])
    with pytest.raises(EvidenceMalformed):
        tcb_info_of(info.signed + b"{}", info.signature)


def test_every_flipped_bit_is_refused_or_changes_text_or_signature() -> None:
    for parse, raw in ((parse_tcb_info, tcb_info()), (parse_qe_identity, identity())):
        good = parse(raw)
        for place in range(len(raw) * 8):
            flipped = bytearray(raw)
            flipped[place // 8] ^= 1 << place % 8
            try:
                found = parse(bytes(flipped))
            except EvidenceMalformed:
                continue
            same = (found.signed, found.signature) == (good.signed, good.signature)
            assert not same or _other_spelling(raw, place), f"byte {place // 8} bit {place % 8}"


def _other_spelling(raw: bytes, place: int) -> bool:
    """The signature's hexadecimal digits may be of either case: the one freedom outside the signed text."""
    start = raw.rindex(b'"signature":"') + 13
    return start <= place // 8 < start + 128 and place % 8 == 5


def test_every_real_answer_is_read(vectors: Path) -> None:
    folder = vectors / "tdx"
    count = 0
    for entry in json.loads((folder / "manifest.json").read_text())["entries"]:
        if entry["kind"] in ("tcb_info", "qe_identity"):
            data = (folder / entry["file"]).read_bytes()
            found = parse_tcb_info(data) if entry["kind"] == "tcb_info" else parse_qe_identity(data)
            assert found.signed in data
            assert found.levels
            count += 1
    assert count >= 20
