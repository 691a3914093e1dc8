"""What `cvm launch`, `cvm plan` and `cvm ps` import on their way: each of these modules costs an operator milliseconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SLOW = {"argparse", "dataclasses", "datetime", "hashlib", "json", "re", "shutil", "socket", "subprocess", "tempfile",
        "tomllib", "typing"}  # fmt: skip
VM = Path(__file__).parents[2] / "fuzz" / "corpus" / "vm_toml" / "plain.toml"
READ = f"from launcher.service.vm_file import load_vm; load_vm({str(VM)!r})"


def loaded(code: str) -> set[str]:
    """Modules of a fresh interpreter that has run ``code``; without ``site``, which loads what is installed here."""
    root = str(Path(__file__).parents[3])
    lines = f"import sys; sys.path.append({root!r}); {code}; print('\\n'.join(sys.modules))"
    command = [sys.executable, "-I", "-S", "-c", lines]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        f"import launcher.cli.launch, launcher.service.launching; {READ}",
        f"import launcher.cli.plan; {READ}",
        "import launcher.cli.ps",
    ],
)
def test_nothing_slow_is_loaded_before_a_plain_vm_is_started_planned_or_listed(code: str) -> None:
    assert loaded(code) & SLOW == set()


def test_what_is_loaded_can_be_seen() -> None:
    assert {"re", "json"} <= loaded("import json")
