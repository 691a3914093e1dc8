"""``attest evidence show``: every field in words, on a terminal of 100 columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attest.cli import main
from attest.cli.report_words import PLATFORM_BITS, POLICY_BITS
from policy.snp import GuestPolicy, PlatformInfo
from policy.vocab import SnpProduct
from tests.fakes.amd_pki import OFFSETS, FakeAmdPki
from tests.unit.attest.verifier.vector_files import listed

Show = Callable[..., str]


@pytest.fixture
def show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Show:
    def run(data: bytes, *words: str) -> str:
        path = tmp_path / "report.bin"
        path.write_bytes(data)
        assert main(["evidence", "show", str(path), *words]) == 0
        return capsys.readouterr().out

    return run


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def test_every_field_of_a_report_is_shown(show: Show) -> None:
    fields: dict[str, Any] = {
        "version": 5, "family_id": b"\x0f" * 16, "image_id": b"\x1e" * 16, "host_data": b"\x2d" * 32, "guest_svn": 4711,
        "id_key_digest": b"\x3c" * 48, "author_key_digest": b"\x4b" * 48, "key_info": 1, "launch_mit_vector": 0xB,
        "current_mit_vector": 0xF,
    }  # fmt: skip
    world = FakeAmdPki(report=fields)
    text = show(world.raw)
    for name in OFFSETS:
        value = world.fields.get(name, 0)
        if isinstance(value, bytes) and any(value) and len(value) > 8 and name != "report_id_ma":
            assert value.hex()[:64] in text, name
    assert "4711" in text
    assert "current 0xf, at launch 0xb" in text
    assert "current 1.55.40, committed 1.55.40" in text
    assert "VMPL 0" in text
    assert text.splitlines()[0].startswith("NOT VERIFIED")


def test_bits_are_named_and_undefined_ones_pointed_out(show: Show) -> None:
    world = FakeAmdPki(report={"policy": 0xB001F | 1 << 40, "platform_info": 0x21 | 1 << 9})
    lines = lines_of(show(world.raw))
    assert any(line.startswith("debug                  1") for line in lines)
    assert any(line.startswith("migrate_ma             0") for line in lines)
    assert any(line.startswith("abi                    0.31") for line in lines)
    assert any(line.startswith("alias_check_complete   1") for line in lines)
    assert sum("UNDEFINED" in line for line in lines) == 2


def test_the_four_tcb_versions_stand_side_by_side_and_lower_parts_are_marked(show: Show) -> None:
    older = bytes([9, 0, 0, 0, 0, 0, 23, 84])
    lines = lines_of(show(FakeAmdPki(report={"committed_tcb": older}).raw))
    assert next(line for line in lines if line.startswith("bootloader")).split() == [
        "bootloader",
        "tee",
        "snp",
        "microcode",
    ]
    assert next(line for line in lines if line.startswith("committed")).split()[:5] == [
        "committed",
        "9*",
        "0",
        "23*",
        "84",
    ]
    assert next(line for line in lines if line.startswith("current ")).split()[:5] == ["current", "10", "0", "24", "84"]
    turin = lines_of(show(FakeAmdPki(product=SnpProduct.TURIN).raw))
    assert next(line for line in turin if line.startswith("fmc")).split()[0] == "fmc"
    assert next(line for line in turin if line.startswith("reported")).split()[:6] == [
        "reported",
        "1",
        "10",
        "0",
        "24",
        "84",
    ]


def test_a_report_the_host_asked_for_says_so(show: Show) -> None:
    assert "the HOST, not the guest" in show(FakeAmdPki(report={"vmpl": 0xFFFFFFFF}).raw)


def test_json_names_the_same_things(show: Show) -> None:
    body = json.loads(show(FakeAmdPki(report={"policy": 0x2030133, "platform_info": 0x67 | 1 << 63}).raw, "--json"))
    assert body["schema"] == "attest.evidence.show/1"
    assert body["verified"] is False
    assert body["details"]["policy"]["abi_min"] == "1.51"
    assert body["details"]["policy"]["page_swap_disable"] is True
    assert body["details"]["policy"]["debug"] is False
    assert body["details"]["platform_info"]["undefined_bits"] == [63]
    assert body["details"]["firmware"] == {"current": "1.55.40", "committed": "1.55.40"}
    assert body["report"]["current_tcb"] == {"bootloader": 10, "tee": 0, "snp": 24, "microcode": 84}


def test_the_names_of_bits_are_those_of_the_claims() -> None:
    for index, name, _ in POLICY_BITS:
        assert name == "reserved_one" or getattr(GuestPolicy(1 << index), name) is True
    for index, name, _ in PLATFORM_BITS:
        assert getattr(PlatformInfo(1 << index), name) is True


def test_no_line_about_a_real_report_is_wider_than_100_columns(show: Show, vectors: Path) -> None:
    for entry in listed(vectors, "report", "extended_report", "hcl", "azure_vtpm_evidence"):
        lines = show((vectors / "snp" / entry["file"]).read_bytes()).splitlines()
        assert max(map(len, lines[2:])) <= 100, entry["file"]


def test_certificates_and_lists_alone_are_shown_too(show: Show) -> None:
    world = FakeAmdPki(product=SnpProduct.TURIN)
    text = show(world.leaf_der + world.ask_der)
    assert text.startswith("NOT VERIFIED")
    lines = lines_of(text)
    assert "certificate SEV-VCEK" in lines
    assert "hwid                 " + world.chip_id[:8].hex() in lines
    assert any(line.startswith("tcb                  fmc=1 bootloader=10") for line in lines)
    assert any(line.startswith("serial_number        0x") for line in lines)
    shown = json.loads(show(world.leaf_der, "--json"))
    assert (shown["kind"], shown["verified"]) == ("amd-collateral", False)
    assert shown["certificates"][0]["product_name"] == "Turin"
    crl = lines_of(show(FakeAmdPki().crl(revoked=[0x20001])))
    assert "revocation list of ARK-Genoa" in crl
    assert "serial_numbers       0x20001" in crl


def test_a_certificate_given_as_evidence_is_told_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "vcek.der"
    path.write_bytes(FakeAmdPki().leaf_der)
    assert main(["evidence", "verify", str(path)]) == 5
    assert "give them with --collateral" in capsys.readouterr().err
    path.write_bytes(b"\x30\x82\x01\x00 of nobody")
    assert main(["evidence", "show", str(path)]) == 5
    assert "hint: it looks like certificates" in capsys.readouterr().err
