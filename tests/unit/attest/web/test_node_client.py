"""A client in another language, with another JOSE library and another TLS stack, does the whole exchange."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.served import Served
from tests.fakes.service_world import OTHER, PATH, SECRET, evidence, reference


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client beside the package it needs, installed as its lock file says."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node and npm: apt-get install nodejs npm")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < 20:
        pytest.skip(f"node {version.strip()} is older than 20, the first with the Web Crypto that jose wants")
    folder = tmp_path_factory.mktemp("node") / "client"
    shutil.copytree(Path(__file__).parents[3] / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("npm ci: no package registry answers")
    if done.returncode:
        pytest.skip(f"npm ci: {done.stderr[-300:]}")
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served") / "service").init().start()
    operator = served.operator()
    assert operator.send("POST", f"/kbs/v0/resource/{PATH}", SECRET, {}).status == 200
    assert operator.send("POST", "/cvm/v0/reference-value", reference(), {}).status == 200
    yield served
    served.stop()


def run(node: Path, served: Served, version: str, kind: str, **fields: int | bytes) -> dict[str, Any]:
    """One exchange; the client's last line. Its evidence is made here, by the fake chip."""
    words = [f"https://localhost:{served.port}", str(served.folder / "ca.pem"), version, kind, str(PATH)]
    client = subprocess.Popen(
        ["node", "kbs_client.mjs", *words],
        cwd=node, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert client.stdout is not None
    try:
        first = client.stdout.readline()
        if not first.startswith("report_data "):
            assert first, client.communicate(timeout=30)[1]
            found: dict[str, Any] = json.loads(first)
            return found
        report_data = bytes.fromhex(first.split()[1])
        out, err = client.communicate(json.dumps(evidence(report_data, **fields)) + "\n", timeout=30)
        assert client.returncode == 0, err
        answer: dict[str, Any] = json.loads(out)
    finally:
        client.kill()
        client.wait(10)
    return answer


@pytest.mark.parametrize("version", ["0.4.0", "0.2.0"])
@pytest.mark.parametrize("kind", ["P-256", "P-521", "RSA"])
def test_it_gets_the_key_by_cookie_and_by_token(node: Path, served: Served, version: str, kind: str) -> None:
    found = run(node, served, version, kind)
    assert found == {"status": 200, "byCookie": SECRET.hex(), "byToken": SECRET.hex(), "ear": "affirming"}


def test_it_is_denied_in_a_form_it_can_parse(node: Path, served: Served) -> None:
    found = run(node, served, "0.4.0", "P-256", measurement=OTHER)
    assert (found["status"], found["reasons"]) == (403, ["measurement"])


def test_it_is_told_of_another_version_in_the_known_words(node: Path, served: Served) -> None:
    found = run(node, served, "0.3.0", "P-256")
    assert found["detail"].startswith("KBS Client Protocol Version Mismatch")
