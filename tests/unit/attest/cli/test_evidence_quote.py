"""``attest evidence verify`` with quotes: outcomes, exit codes, TCB status, folders of Intel's collateral."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attest.cli import main
from tests.fakes.intel_pki import FakeIntelPki, default_levels, level

AT = "2026-06-01T12:00:00Z"


def laid_out(world: FakeIntelPki, folder: Path, *, without: str = "") -> list[str]:
    """The quote, its collateral under names that say nothing, and the options that name both."""
    things = {
        "signer": world.issuer_chain[0], "root": world.root_der, "lists-root": world.crl("ROOT"),
        "lists-ca": world.crl(world.ca), "tcb": world.tcb_info_json, "qe": world.qe_identity_json,
    }  # fmt: skip
    collateral = folder / "collateral"
    collateral.mkdir()
    for number, (name, data) in enumerate(things.items()):
        if not name.startswith(without) or not without:
            (collateral / f"{number}.bin").write_bytes(data)
    (folder / "root.der").write_bytes(world.root_der)
    (folder / "quote.bin").write_bytes(world.raw)
    return [str(folder / "quote.bin"), "--collateral", str(collateral), "--root", str(folder / "root.der"), "--at", AT]


def verify(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    code = main(["evidence", "verify", *options, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, found


@pytest.mark.parametrize(("version", "layout"), [(4, "1.0"), (5, "1.5"), (3, "sgx"), (5, "sgx")])
def test_a_quote_is_genuine_with_its_tcb_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: int, layout: str
) -> None:
    world = FakeIntelPki(version=version, layout=layout)
    code, found = verify(capsys, *laid_out(world, tmp_path))
    assert (code, found["outcome"], found["tcb_status"]) == (0, "genuine", "UpToDate")
    assert found["revocation"] == "good"
    assert found["emulated"] is True
    assert found["claims"]["pck"]["fmspc"] == world.extension.fmspc.hex()
    assert main(["evidence", "verify", *laid_out_again(tmp_path)]) == 0
    assert "EMULATED" in capsys.readouterr().out


def laid_out_again(folder: Path) -> list[str]:
    """The options for what already lies there."""
    return [
        str(folder / "quote.bin"), "--collateral", str(folder / "collateral"), "--root", str(folder / "root.der"),
        "--at", AT,
    ]  # fmt: skip


def test_an_out_of_date_platform_is_genuine_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = FakeIntelPki(levels=default_levels(td=True)[1:])
    code, found = verify(capsys, *laid_out(world, tmp_path))
    assert (code, found["tcb_status"], found["advisory_ids"]) == (0, "OutOfDate", ["INTEL-SA-01036"])


def test_a_revoked_platform_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = verify(capsys, *laid_out(FakeIntelPki(levels=(level("Revoked"),)), tmp_path))
    assert (code, found["code"], found["tcb_status"]) == (6, "verification.tcb", None)


@pytest.mark.parametrize("missing", ["tcb", "qe", "signer"])
def test_without_collateral_a_quote_is_unavailable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    code, found = verify(capsys, *laid_out(FakeIntelPki(), tmp_path, without=missing))
    assert (code, found["outcome"]) == (8, "unavailable")


def test_without_lists_a_quote_is_genuine_unless_they_are_required(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = laid_out(FakeIntelPki(), tmp_path, without="lists")
    code, found = verify(capsys, *options)
    assert (code, found["revocation"]) == (0, "not-checked")
    code, found = verify(capsys, *options, "--require-crl")
    assert (code, found["code"]) == (8, "endorsement.crl")


def test_a_revoked_pck_certificate_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = verify(capsys, *laid_out(FakeIntelPki(crls={"PLATFORM_CA": {"revoked": ("PCK",)}}), tmp_path))
    assert (code, found["revocation"]) == (6, "revoked")


def test_a_debuggable_td_is_genuine_and_a_check_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = verify(capsys, *laid_out(FakeIntelPki(td={"td_attributes": 1 | 1 << 28}), tmp_path))
    assert code == 0
    assert {"tdx.attributes.debug"} <= {check["id"] for check in found["checks"] if check["outcome"] == "fail"}


def test_expected_report_data_binds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = laid_out(FakeIntelPki(), tmp_path)
    assert verify(capsys, *options, "--report-data", "22" * 64)[0] == 0
    code, found = verify(capsys, *options, "--nonce", "22" * 32)
    assert (code, found["code"]) == (6, "verification.binding")


def test_without_its_root_a_test_quote_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = laid_out(FakeIntelPki(), tmp_path)
    del options[3:5]
    code, found = verify(capsys, *options)
    assert (code, found["code"]) == (6, "verification.root")


def test_a_folder_of_quotes_gets_a_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = laid_out(FakeIntelPki(), tmp_path)
    quotes = tmp_path / "quotes"
    quotes.mkdir()
    for number in range(3):
        (quotes / f"{number}").write_bytes(FakeIntelPki(td={"report_data": bytes([number]) * 64}).raw)
    (quotes / "3").write_bytes(b"\x04\x00\x02\x00")
    assert main(["evidence", "verify", str(quotes), *options[1:]]) == 5
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["genuine"] * 3 + ["malformed"]
