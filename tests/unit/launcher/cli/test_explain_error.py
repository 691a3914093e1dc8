"""``cvm explain-error``."""

from __future__ import annotations

import io
import json

import pytest

from launcher.cli import main


def test_a_text_gets_cause_and_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain-error", "vm-type SEV-SNP not supported by KVM"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("kvm.no-snp: vm-type SEV-SNP")
    assert "remedy" in out


def test_a_code_is_read_in_any_base(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain-error", "0x26", "--json"]) == 0
    assert main(["explain-error", "38", "--json"]) == 0
    first, second = capsys.readouterr().out.split("}\n{")
    assert json.loads(first + "}") == json.loads("{" + second)


def test_a_log_comes_from_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\x1b[31m fw_error=0x20\n")))
    assert main(["explain-error", "-"]) == 0
    assert "RMP was not set up" in capsys.readouterr().out


def test_what_is_not_known_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain-error", "all is well"]) == 10
    assert "no known error" in capsys.readouterr().err
