"""The exported cases are complete, and our own command agrees with every one of them."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from attest.cli import main
from attest.endorsement.errors import STEPS
from policy.checks import run_checks
from policy.document import parse_policy
from tests.cases.export import document
from tests.cases.snp.cases import CASES
from tests.cases.snp.malformed import malformed_cases
from tests.cases.snp.rules import STRICT, rule_cases
from tests.fakes.amd_pki import NOW
from tests.fakes.claims import verified

EXIT = {"genuine": 0, "malformed": 5, "failed": 6, "denied": 7, "unavailable": 8}
CHAIN = {"verification.root", "verification.intermediate", "verification.leaf"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("cases") / "cases.json"
    path.write_text(json.dumps(document()))
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def test_every_case_is_complete_and_has_an_id_of_its_own(exported: dict[str, Any]) -> None:
    cases = exported["cases"]
    assert exported["schema"] == "cvm.cases/1"
    assert (
        len({case["id"] for case in cases})
        == len(cases)
        == 10 + len(CASES) + len(malformed_cases()) + len(rule_cases())
    )
    for case in cases:
        assert case.keys() == {"id", "description", "clause", "inputs", "expected"}
        assert case["inputs"].keys() == {
            "report", "certificates", "crls", "trusted_roots", "at", "expected_report_data", "policy",
        }  # fmt: skip
        assert case["expected"].keys() == {"outcome", "code", "step", "failed_checks"}
        assert case["description"]
        assert case["clause"]


def test_every_step_of_the_verifier_and_every_rule_of_the_appraisal_has_a_case(exported: dict[str, Any]) -> None:
    expected = [case["expected"] for case in exported["cases"]]
    assert {item["step"] for item in expected} - {None} == set(STEPS)
    checks = run_checks(verified(), parse_policy(STRICT.encode()), (), NOW).checks
    assert {name for item in expected for name in item["failed_checks"]} == {check.id for check in checks}


def _call(folder: Path, case: dict[str, Any]) -> list[str]:
    inputs = case["inputs"]
    (folder / "report.bin").write_bytes(b64decode(inputs["report"]))
    (folder / "with").mkdir()
    for number, text in enumerate([*inputs["certificates"], *inputs["crls"]]):
        (folder / "with" / f"{number}").write_bytes(b64decode(text))
    words = [str(folder / "report.bin"), "--collateral", str(folder / "with"), "--at", inputs["at"], "--json"]
    for number, text in enumerate(inputs["trusted_roots"]):
        (folder / f"root{number}").write_bytes(b64decode(text))
        words += ["--root", str(folder / f"root{number}")]
    if inputs["expected_report_data"] is not None:
        words += ["--report-data", b64decode(inputs["expected_report_data"]).hex()]
    if inputs["policy"] is not None:
        (folder / "policy.toml").write_text(inputs["policy"])
        words += ["--policy", str(folder / "policy.toml")]
    return words


def test_our_command_agrees_with_every_case(
    exported: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for case in exported["cases"]:
        folder = tmp_path / case["id"]
        folder.mkdir()
        code = main(["evidence", "verify", *_call(folder, case)])
        found = json.loads(capsys.readouterr().out)
        expected = case["expected"]
        told = case["id"], found["message"]
        assert (found["outcome"], code) == (expected["outcome"], EXIT[expected["outcome"]]), told
        # The command also knows AMD's published chain, so a broken link may be noticed at another link.
        same = CHAIN if expected["code"] in CHAIN else {expected["code"]}
        assert found["code"] in same, told
        if case["inputs"]["policy"] is not None:
            failed = [check["id"] for check in found["checks"] if check["outcome"] == "fail"]
            assert failed == expected["failed_checks"], told


def test_the_file_is_written_by_one_command(tmp_path: Path, repo: Path) -> None:
    path = tmp_path / "cases.json"
    subprocess.run([sys.executable, "-m", "tests.cases.export", str(path)], cwd=repo, check=True, timeout=120)
    assert json.loads(path.read_text())["schema"] == "cvm.cases/1"
