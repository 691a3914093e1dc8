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
from policy.reference_set import ReferenceSet
from tests.cases.export import QUOTES, document
from tests.cases.snp.cases import CASES
from tests.cases.snp.malformed import malformed_cases
from tests.cases.snp.rules import STRICT, rule_cases
from tests.cases.tdx import cases as quotes
from tests.cases.tdx.malformed import malformed_cases as malformed_quotes
from tests.cases.tdx.rules import quote_rule_cases
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
    snp = 10 + len(CASES) + len(malformed_cases()) + len(rule_cases())
    intel = 2 * len(QUOTES) + len(quotes.CASES) + len(malformed_quotes()) + len(quote_rule_cases())
    assert len({case["id"] for case in cases}) == len(cases) == snp + intel
    for case in cases:
        assert case.keys() == {"id", "description", "clause", "inputs", "expected"}
        assert case["inputs"].keys() == {
            "evidence", "certificates", "crls", "tcb_infos", "qe_identities", "trusted_roots", "at",
            "expected_report_data", "policy",
        }  # fmt: skip
        assert case["expected"].keys() == {"outcome", "code", "step", "failed_checks"}
        assert case["description"]
        assert case["clause"]


def test_every_step_of_the_verifier_and_every_rule_of_the_appraisal_has_a_case(exported: dict[str, Any]) -> None:
    expected = [case["expected"] for case in exported["cases"]]
    # Certification data that cannot be followed are "unsupported", not a failed step.
    assert {item["step"] for item in expected} - {None} == set(STEPS) - {"certification"}
    checks = run_checks(verified(), parse_policy(STRICT.encode()), ReferenceSet(), NOW).checks
    about_quotes = {name for case in quote_rule_cases() for name in case.rules}
    assert {name for item in expected for name in item["failed_checks"]} == {
        check.id for check in checks
    } | about_quotes


def _call(folder: Path, case: dict[str, Any]) -> list[str]:
    inputs = case["inputs"]
    (folder / "evidence").write_bytes(b64decode(inputs["evidence"]))
    (folder / "with").mkdir()
    collateral = [*inputs["certificates"], *inputs["crls"], *inputs["tcb_infos"], *inputs["qe_identities"]]
    for number, text in enumerate(collateral):
        (folder / "with" / f"{number}").write_bytes(b64decode(text))
    words = [str(folder / "evidence"), "--collateral", str(folder / "with"), "--at", inputs["at"], "--json"]
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
