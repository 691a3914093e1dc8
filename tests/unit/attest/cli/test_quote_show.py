"""``attest evidence show`` for quotes and TDREPORTs: every field in words, on a terminal of 100 columns."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from attest.cli import main
from attest.cli.quote_words import SGX_BITS, TD_BITS
from attest.evidence.quote import parse_quote
from attest.evidence.tdx_json import encode_tdx_json
from policy.tdx import SgxAttributes, TdAttributes
from tests.unit.attest.evidence.quotes import make_quote, make_tdreport, qe_material

Show = Callable[..., str]
COUNTING = bytes((index * 3 + index // 256 + 1) % 256 for index in range(885))


@pytest.fixture
def show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Show:
    def run(data: bytes, *words: str) -> str:
        path = tmp_path / "evidence.bin"
        path.write_bytes(data)
        assert main(["evidence", "show", str(path), *words]) == 0
        return capsys.readouterr().out

    return run


def _joined(text: str) -> str:
    return "".join(line.strip() for line in text.splitlines())


@pytest.mark.parametrize("layout", ["1.0", "1.5", "1.5-extended"])
def test_every_field_of_a_td_quote_is_shown(show: Show, layout: str) -> None:
    size = {"1.0": 584, "1.5": 648, "1.5-extended": 885}[layout]
    data = make_quote(5, layout, body=COUNTING[:size])
    text = show(data)
    assert text.splitlines()[0].startswith("NOT VERIFIED")
    body = json.loads(show(data, "--json"))["quote"]["body"]
    for name, value in body.items():
        if isinstance(value, str) and not value.startswith("0x"):
            assert value in _joined(text), name
    assert all(value in _joined(text) for value in (*body["rtmrs"], *body["extended"]))
    assert f"TD report {layout}" in text


def test_attribute_bits_are_named_and_undefined_ones_pointed_out(show: Show) -> None:
    attributes = (1 | 1 << 28 | 1 << 40).to_bytes(8, "little")
    data = make_quote(body=bytes(120) + attributes + bytes([3]) + bytes(455))
    lines = [line.strip() for line in show(data).splitlines()]
    assert any(line.startswith("debug                  1   the host may read") for line in lines)
    assert any(line.startswith("sept_ve_disable        1") for line in lines)
    assert any(line.startswith("migratable             0") for line in lines)
    assert any(line.startswith("bit 40                 1   UNDEFINED") for line in lines)
    assert "x87, SSE" in lines
    details = json.loads(show(data, "--json"))["details"]
    assert details["td_attributes"]["debug"] is True
    assert details["td_attributes"]["undefined_bits"] == [40]
    assert details["xfam"] == {"names": ["x87", "SSE"], "undefined_bits": []}


def test_the_names_of_attribute_bits_are_those_of_the_claims() -> None:
    for names, kind in ((TD_BITS, TdAttributes), (SGX_BITS, SgxAttributes)):
        assert {index: name.upper() for index, name, _ in names} == kind.NAMES


def test_an_sgx_quote_shows_its_enclave(show: Show) -> None:
    body = bytearray(384)
    body[48] = 3
    body[64:96] = b"\xee" * 32
    text = show(make_quote(3, "sgx", body=bytes(body)))
    assert "ee" * 32 in text
    assert "INIT, DEBUG" in text
    assert json.loads(show(make_quote(3, "sgx"), "--json"))["details"]["attributes"]["debug"] is False


def test_a_quote_says_what_certifies_it(show: Show) -> None:
    text = show(make_quote(material=qe_material(1, b"P" * 16 + b"C" * 16 + b"\x0d\0\1\2")))
    assert "type 1: PPID in the clear" in text
    assert f"ppid {(b'P' * 16).hex()}" in text
    assert "does NOT name the attestation key" in text
    assert "unreadable" in show(make_quote())


def test_padding_and_a_foreign_vendor_are_pointed_out(show: Show) -> None:
    data = bytearray(make_quote(tail=bytes(70)))
    data[12] ^= 1
    text = show(bytes(data))
    assert "70 zero bytes after the quote" in text
    assert "UNKNOWN" in text


def test_a_tdreport_says_that_it_proves_nothing(show: Show) -> None:
    text = show(make_tdreport())
    assert "proves nothing to a remote party" in text
    assert "does NOT fit" not in text
    damaged = bytearray(make_tdreport(mrtd=b"\xab" * 48))
    damaged[300] ^= 1
    assert "does NOT fit" in show(bytes(damaged))
    body = json.loads(show(bytes(damaged), "--json"))
    assert body["hashes_fit"] == {"tee_tcb_info": False, "tee_info": True}
    assert body["tdreport"]["mrtd"] == "ab" * 48


def test_kbs_evidence_shows_what_came_with_the_quote(show: Show) -> None:
    evidence = encode_tdx_json(make_quote(), b"log") | {"aa_eventlog": "INIT sha384/00\n\x1b[2Jevil"}
    text = show(json.dumps(evidence).encode())
    assert "event log: 3 bytes" in text
    assert "INIT sha384/00" in text
    assert "\x1b" not in text
    body = json.loads(show(json.dumps(evidence).encode(), "--json"))
    assert (body["kind"], body["event_log_bytes"]) == ("kbs-tdx", 3)


def test_every_real_quote_is_shown_within_100_columns_with_its_certificates(show: Show, vectors: Path) -> None:
    for path in sorted((vectors / "tdx" / "quotes").glob("*.bin")):
        if path.stem == "tdx4-gotdxguest-spr":  # refused: carries text after its signature data
            continue
        lines = show(path.read_bytes()).splitlines()
        assert max(map(len, lines[2:])) <= 100, path.stem
        assert sum(line.startswith("certificate Intel SGX") for line in lines) == 3, path.stem
    data = (vectors / "tdx" / "quotes" / "tdx4-phala-b0c06f.bin").read_bytes()
    leaf = json.loads(show(data, "--json"))["certificates"][0]
    assert (leaf["fmspc"], leaf["pceid"], leaf["sgx_type"]) == ("b0c06f000000", "0000", "1 scalable")
    wrapped = json.dumps({"quote": base64.b64encode(data).decode()}).encode()
    assert parse_quote(data).signed_sha256.hex() in show(wrapped)
