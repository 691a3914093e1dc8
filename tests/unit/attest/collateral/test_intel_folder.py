"""Intel's collateral from an operator's folder, in every form in which it is served."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from attest.cli.evidence_quote import intel_collateral_below
from attest.collateral.errors import CollateralUnreadable
from attest.collateral.folder import load_collateral_dir
from attest.collateral.intel_folder import IntelFolder, intel_collateral_of
from attest.emulator.td_pki import pem_chain
from attest.evidence.bundle import BundleItem, build_bundle, parse_bundle
from attest.evidence.collateral_file import read_collateral_file
from tests.fakes.amd_pki import FakeAmdPki
from tests.fakes.intel_pki import NOW, FakeIntelPki

WORLD = FakeIntelPki()
LIST = WORLD.crl("ROOT")


def test_documents_are_read_as_they_were_served() -> None:
    assert len(intel_collateral_of(WORLD.tcb_info_json).tcb_infos) == 1
    assert len(intel_collateral_of(b"\n" + WORLD.qe_identity_json).qe_identities) == 1


@pytest.mark.parametrize(
    "data",
    [LIST, LIST.hex().encode(), LIST.hex().upper().encode() + b"\n", LIST.hex().encode() + b"\0"],
    ids=["der", "hex", "HEX", "hex with its NUL"],
)
def test_a_list_comes_in_der_or_hexadecimal(data: bytes) -> None:
    assert [crl.der for crl in intel_collateral_of(data).crls] == [LIST]


def test_certificates_come_in_der_or_pem_chains() -> None:
    chain = pem_chain(*WORLD.issuer_chain)
    assert [item.der for item in intel_collateral_of(chain.rstrip(b"\0")).certificates] == list(WORLD.issuer_chain)
    assert [item.der for item in intel_collateral_of(WORLD.root_der).certificates] == [WORLD.root_der]


@pytest.mark.parametrize("data", [b"", b"text", b"{}", bytes(100), FakeAmdPki().leaf_der, b"3082zz", b"308"])
def test_what_is_not_intels_is_passed_over(data: bytes) -> None:
    found = intel_collateral_of(data)
    assert (found.certificates, found.crls, found.tcb_infos, found.qe_identities) == ((), (), (), ())


@pytest.mark.parametrize("data", [b'{"tcbInfo": 5}', b'{"enclaveIdentity": {}', WORLD.root_der[:-3], LIST[:-3]])
def test_damaged_files_are_kept_as_errors(data: bytes) -> None:
    assert len(intel_collateral_of(data).damaged) == 1


def test_a_folder_is_read_again_only_after_a_change(tmp_path: Path) -> None:
    folder = IntelFolder(tmp_path)
    (tmp_path / "tcb.json").write_bytes(WORLD.tcb_info_json)
    (tmp_path / "damaged.json").write_bytes(b'{"tcbInfo": 5}')
    first = folder.current()
    assert (len(first.tcb_infos), first.damaged) == (1, ())
    assert folder.current() is first
    (tmp_path / "list.der").write_bytes(LIST)
    assert len(folder.current().crls) == 1


def test_no_folder_holds_nothing_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    assert IntelFolder(None).current().crls == ()
    with pytest.raises(CollateralUnreadable):
        IntelFolder(tmp_path / "none").current()


def test_the_real_collateral_is_all_read(vectors: Path) -> None:
    found = IntelFolder(vectors / "tdx" / "collateral").current()
    assert (len(found.certificates), len(found.crls), len(found.tcb_infos), len(found.qe_identities)) == (5, 12, 14, 10)


def library_form(**changes: object) -> dict[str, object]:
    """Collateral as verification libraries keep it: one object of texts."""
    info, identity = WORLD.collateral.tcb_infos[0], WORLD.collateral.qe_identities[0]
    chain = pem_chain(*WORLD.issuer_chain).rstrip(b"\0").decode()
    return {
        "tcb_info_issuer_chain": chain,
        "tcb_info": info.signed.decode(),
        "tcb_info_signature": info.signature.hex(),
        "qe_identity_issuer_chain": chain,
        "qe_identity": identity.signed.decode(),
        "qe_identity_signature": identity.signature.hex(),
        "root_ca_crl": LIST.hex(),
        "pck_crl": WORLD.crl("PLATFORM_CA").hex(),
        "pck_crl_issuer_chain": pem_chain(WORLD.issued("PLATFORM_CA").der, WORLD.root_der).rstrip(b"\0").decode(),
        **changes,
    }


@pytest.mark.parametrize(
    "wrapped",
    [lambda found: found, lambda found: {"collateral": found, "quote": "0400"}, lambda found: {"x": json.dumps(found)}],
)
def test_collateral_as_libraries_keep_it_verifies_a_quote(wrapped: Callable[[object], object]) -> None:
    found = intel_collateral_of(json.dumps(wrapped(library_form())).encode())
    assert found.damaged == ()
    assert WORLD.verify(collateral=found).tdx is not None


def test_texts_may_keep_the_nul_that_ends_a_c_string() -> None:
    members = library_form()
    texts = {name: f"{text}\0" for name, text in members.items() if not name.endswith("signature")}
    found = intel_collateral_of(json.dumps({**members, **texts}).encode())
    assert found.damaged == ()
    assert WORLD.verify(collateral=found).tdx is not None
    assert len(intel_collateral_of(WORLD.tcb_info_json + b"\0").tcb_infos) == 1


def test_whole_answers_as_members_are_read_too() -> None:
    whole = {"a": WORLD.tcb_info_json.decode(), "b": WORLD.qe_identity_json.decode()}
    found = intel_collateral_of(json.dumps(whole).encode())
    assert (len(found.tcb_infos), len(found.qe_identities), found.damaged) == (1, 1, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"tcb_info_signature": "00"},
        {"tcb_info_signature": 5},
        {"root_ca_crl": LIST[:-3].hex()},
        {"tcb_info": '{"tcbLevels": "fmspc"}'},
    ],
)
def test_a_damaged_member_is_named_and_the_others_are_read(changes: dict[str, object]) -> None:
    found = intel_collateral_of(json.dumps(library_form(**changes)).encode())
    assert len(found.damaged) == 1
    assert len(found.qe_identities) == 1


def test_lists_and_certificates_laid_end_to_end_are_all_read() -> None:
    found = intel_collateral_of(LIST + WORLD.root_der)
    assert (len(found.crls), len(found.certificates)) == (1, 1)


def test_a_bundle_holds_documents_beside_certificates() -> None:
    item = BundleItem("tcb", NOW, (WORLD.tcb_info_json, *WORLD.issuer_chain))
    data = build_bundle([item])
    assert parse_bundle(data) == (item,)
    found = intel_collateral_of(data)
    assert (len(found.tcb_infos), len(found.certificates), found.damaged) == (1, 2, ())
    assert read_collateral_file(data).damaged == ()


def test_a_bundle_object_named_for_another_form_is_refused() -> None:
    data = build_bundle([BundleItem("list", NOW, (LIST,))]).replace(b'"der"', b'"json"')
    assert len(intel_collateral_of(data).damaged) == 1


def test_a_bundle_inside_a_bundle_is_not_opened() -> None:
    inner = build_bundle([BundleItem("list", NOW, (LIST,))])
    assert intel_collateral_of(build_bundle([BundleItem("outer", NOW, (inner,))])).crls == ()


def test_the_identity_of_the_verifying_enclave_is_passed_over() -> None:
    assert intel_collateral_of(b'{"enclaveIdentity": {"id": "QVE"}, "signature": ""}').damaged == ()


def test_a_folder_holds_amds_and_intels_things_together(tmp_path: Path) -> None:
    amd = FakeAmdPki()
    (tmp_path / "a").write_bytes(json.dumps(library_form()).encode())
    (tmp_path / "b").write_bytes(amd.leaf_der)
    (tmp_path / "c").write_bytes(amd.crl())
    (tmp_path / "d").write_bytes(LIST)
    (tmp_path / "e").write_bytes(WORLD.root_der)
    (tmp_path / "f").write_bytes(LIST.hex().encode())
    warned: list[str] = []
    assert len(load_collateral_dir(tmp_path, warned.append).leaves) == 1
    found = intel_collateral_below([tmp_path], warned.append)
    assert (len(found.tcb_infos), len(found.crls), warned) == (1, 2, [])
