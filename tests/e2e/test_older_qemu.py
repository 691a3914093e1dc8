"""What is planned for an older QEMU, given to that QEMU; where it was fetched (`make test-older`)."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from launcher.cli import main
from launcher.core.qemu_features import FEATURES
from launcher.io.host import probe_host
from launcher.io.qemu_file import shipped
from launcher.io.qemu_probe import probe_capabilities
from launcher.io.toolchain import Toolchain
from tests.e2e.test_launcher_qemu import folder, vm
from tests.fakes.older_qemu import SERIES, older_qemu

__all__ = ["folder"]  # a fixture

pytestmark = pytest.mark.qemu


@pytest.fixture(scope="module")
def older() -> Toolchain:
    found = older_qemu()
    if found is None:
        pytest.skip(f"QEMU {SERIES} was not fetched: make test-older")
    return found


def run(older: Toolchain, path: Path, capsys: pytest.CaptureFixture[str], place: Path) -> list[str]:
    """What that QEMU says to the command line planned for its series, until it ends by itself."""
    assert main(["plan", "--qemu-version", SERIES, str(path), "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["argv"][1:]
    done = subprocess.run(
        [*older.qemu_argv, *planned], cwd=place, env={**os.environ, **older.env},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    return [re.sub(r"^\S*qemu-system-x86_64: ", "", line) for line in done.stderr.splitlines()]


def test_what_this_release_knows_of_it_is_what_it_answers(older: Toolchain) -> None:
    found, known = probe_capabilities(older), shipped(SERIES)
    assert {name for name in FEATURES if found.has(name) != known.has(name)} == set()
    assert found.machine == known.machine == "pc-q35-10.0"


def test_the_command_line_planned_for_it_stops_at_the_missing_hardware_and_nowhere_before(
    older: Toolchain, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if probe_host().kvm.vm_types is None or probe_host().kvm.has_type(4):
        pytest.skip("needs a KVM without SEV-SNP")
    assert run(older, vm(folder, "sev-snp"), capsys, tmp_path) == ["vm-type SEV-SNP not supported by KVM"]


def test_a_td_is_refused_by_the_plan_for_what_it_lacks(
    older: Toolchain, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = run(older, vm(folder, "tdx"), capsys, tmp_path)
    assert any("does not accept value 'tdx-guest'" in line for line in said)
    assert main(["plan", "--qemu-version", SERIES, str(vm(folder, "tdx"))]) == 0
    assert "this host cannot run it: qemu.tdx" in capsys.readouterr().out


def test_an_ordinary_vm_runs_under_it_as_planned(
    older: Toolchain, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = vm(folder, "none", accel="tcg")
    assert main(["plan", "--qemu-version", SERIES, str(path), "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["argv"][1:]
    child = subprocess.Popen(
        [*older.qemu_argv, *planned, "-chardev", "stdio,id=talk", "-mon", "chardev=talk,mode=control"],
        cwd=tmp_path, env={**os.environ, **older.env}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        for word in ("qmp_capabilities", "query-status", "quit"):
            print(json.dumps({"execute": word}), file=child.stdin, flush=True)
        out, _ = child.communicate(timeout=120)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 0
    assert '"status": "running"' in out
