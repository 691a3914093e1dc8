"""The shape of the tree is a test, not a wish."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("policy", "ovmf", "launcher", "attest")


def sources(repo: Path) -> list[Path]:
    return sorted(path for package in PACKAGES for path in (repo / package).rglob("*.py"))


def test_the_import_rule_holds(repo: Path) -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_verifier_makes_verified_claims(repo: Path) -> None:
    users = {
        path.relative_to(repo).as_posix()
        for path in sources(repo)
        if "verifier_seal" in path.read_text() and path.name != "claims.py"
    }
    assert all(user.startswith("attest/verifier/") for user in users), users


def test_no_assert_guards_the_product(repo: Path) -> None:
    """``python -O`` removes assert statements; a check must not vanish with them."""
    found = [
        f"{path.relative_to(repo)}:{node.lineno}"
        for path in sources(repo)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_every_refusal_of_a_plan_has_an_id_of_its_own(repo: Path) -> None:
    """Scripts and `[id]` behind the sentence tell refusals apart by it; the class's own code says nothing."""
    nameless = [
        f"{path.relative_to(repo)}:{node.lineno}"
        for path in sources(repo)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "PlanRefused"
        and "code" not in {word.arg for word in node.keywords}
    ]
    assert nameless == []


def test_functions_stay_within_the_budget(repo: Path) -> None:
    long = [
        f"{path.relative_to(repo)}:{node.name} {node.end_lineno - node.lineno + 1}"
        for path in sources(repo)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > 60
    ]
    assert long == []


def test_every_module_says_what_it_is_for(repo: Path) -> None:
    silent = [
        path.relative_to(repo).as_posix()
        for path in sources(repo)
        if path.read_text().strip() and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert silent == []


def test_nothing_in_the_tree_depends_on_where_it_was_built(repo: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=repo, capture_output=True, check=False)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    names = [repo / name.decode() for name in tracked.stdout.split(b"\0") if name]
    texts = {path: path.read_bytes() for path in names if path.is_file()}
    assert texts
    leaks = [path for path, data in texts.items() if str(repo).encode() + b"/" in data]
    assert leaks == []
    hosts = re.compile(
        rb"files\.pythonhosted|pypi\.org/simple|registry\.npmjs|--index-url|--find-links|deb\.debian\.org"
    )
    named = [path for path, data in texts.items() if hosts.search(data) and path.name != Path(__file__).name]
    assert named == []
