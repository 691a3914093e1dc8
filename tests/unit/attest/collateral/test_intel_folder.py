"""Intel's collateral from an operator's folder, in every form in which it is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from attest.collateral.errors import CollateralUnreadable
from attest.collateral.intel_folder import IntelFolder, intel_collateral_of
from attest.emulator.td_pki import pem_chain
from tests.fakes.amd_pki import FakeAmdPki
from tests.fakes.intel_pki import FakeIntelPki

WORLD = FakeIntelPki()
LIST = WORLD.crl("ROOT")


def test_documents_are_read_as_they_were_served() -> None:
    assert len(intel_collateral_of(WORLD.tcb_info_json).tcb_infos) == 1
    assert len(intel_collateral_of(b"\n" + WORLD.qe_identity_json).qe_identities) == 1


@pytest.mark.parametrize(
    "data", [LIST, LIST.hex().encode(), LIST.hex().upper().encode() + b"\n"], ids=["der", "hex", "HEX"]
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
