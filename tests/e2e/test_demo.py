"""The demos are the main job: they run as tests, and their records are held to what the README promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from launcher.io.cachedir import cache_folder
from policy.initdata import rtmr3_after

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


def run_demo(repo: Path, platform: str) -> Any:
    if not (cache_folder() / "image" / "manifest.json").is_file():
        pytest.skip("no guest image in the cache: `make test` builds it")
    argv = [sys.executable, "-m", "tests.e2e.demo", "--json", "--platform", platform]
    done = subprocess.run(argv, cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def record(repo: Path) -> Any:
    return run_demo(repo, "snp")


@pytest.fixture(scope="module")
def td(repo: Path) -> Any:
    if which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    return run_demo(repo, "tdx")


def test_the_good_vm_attests_and_reads_its_encrypted_disk(record: Any) -> None:
    assert record["ok"] is True
    launch = record["steps"]["launch"]
    assert "hello from inside" in launch["payload_output"]
    assert launch["launch_digest"] == record["steps"]["measure"]["launch_digest"]


def test_the_firmware_refuses_a_command_line_that_is_not_in_its_hash_table(record: Any) -> None:
    reason = record["steps"]["refusals"]["cmdline"]["reason"]
    assert "firmware refused" in reason
    assert "command line" in reason


def test_the_service_refuses_another_initrd_and_the_explanation_names_it(record: Any) -> None:
    refusal = record["steps"]["refusals"]["initrd"]
    assert "measurement" in refusal["result"]
    assert refusal["explained"]["differs"] == ["initrd"]
    assert refusal["explained"]["outcome"] == "explained"


def test_a_replayed_request_is_refused_in_every_variation(record: Any) -> None:
    answers = list(record["steps"]["refusals"]["replay"]["refusals"].values())
    assert [answer.split()[0] for answer in answers] == ["401", "401", "403"]
    assert "nonce already used" in answers[0]


def test_every_decision_of_the_demo_can_be_made_again_from_its_record(record: Any) -> None:
    audit = record["steps"]["audit"]
    assert audit["unrepeatable"] == 0
    assert audit["repeated"] >= 4


def test_a_td_attests_by_what_its_firmware_measured_and_reads_its_encrypted_disk(td: Any) -> None:
    assert td["ok"] is True
    launch = td["steps"]["launch"]
    assert launch["platform"] == "emulated-tdx"
    assert "hello from inside" in launch["payload_output"]
    assert launch["launch_digest"] == td["steps"]["measure"]["launch_digest"]


@pytest.mark.parametrize("platform", ["record", "td"])
def test_the_service_knows_the_vm_by_the_init_data_its_launch_is_bound_to(
    platform: str, request: pytest.FixtureRequest
) -> None:
    planned = request.getfixturevalue(platform)["steps"]["launch"]["init_data"]
    assert (planned["vm"], planned["service"]) == ("demo", "demo")
    assert planned["value"] == planned["digest"]


def test_a_td_extends_rtmr3_by_its_init_data_and_by_nothing_else(td: Any) -> None:
    launch = td["steps"]["launch"]
    (check,) = [item for item in launch["checks"] if item["id"] == "tdx.rtmr3"]
    assert check["outcome"] == "pass"
    assert check["actual"] == rtmr3_after(bytes.fromhex(launch["init_data"]["value"])).hex()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ("kernel", "same firmware; RTMR1 event 1 application: expected "),
        ("cmdline", "same firmware; RTMR2 event 1 load-options: expected "),
        ("initrd", "same firmware; RTMR2 event 2 initrd: expected "),
    ],
)
def test_a_changed_td_is_refused_and_the_event_that_differs_is_named(td: Any, changed: str, named: str) -> None:
    refusal = td["steps"]["refusals"][changed]
    assert "HTTP 403" in refusal["result"]
    assert "measurement" in refusal["result"]
    assert refusal["explained"]["text"].startswith(named)
    assert len(refusal["explained"]["differences"]) == 1


def test_every_decision_about_a_td_can_be_made_again_from_its_record(td: Any) -> None:
    audit = td["steps"]["audit"]
    assert (audit["unrepeatable"], audit["repeated"]) == (0, 4)
