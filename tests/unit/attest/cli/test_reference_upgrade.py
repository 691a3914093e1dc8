"""The verbs of a guided upgrade: what they print, what they refuse, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes.served import Done, Served
from tests.fakes.service_world import reference


@pytest.fixture
def served(tmp_path: Path) -> Served:
    found = Served(tmp_path / "service").init()
    for name, digest in (("web-1", b"\x11" * 48), ("web-2", b"\x22" * 48)):
        (tmp_path / f"{name}.ref.json").write_bytes(reference(name, digest))
    assert add(found, "web-1").code == 0
    return found


def add(served: Served, name: str, *more: str) -> Done:
    return served.attest("reference", "add", str(served.folder.parent / f"{name}.ref.json"), *more)


def states(served: Served) -> list[str]:
    lines = served.attest("reference", "list").out.splitlines()[1:]
    return [line.split("  ")[-1] for line in lines]


def test_the_list_tells_an_upgrade_from_its_plan_to_its_end(served: Served) -> None:
    canary = ("--canary-vm", "web-a", "--canary-chip", "AB" * 64, "--canary-releases", "10")
    assert add(served, "web-2", "--next", "web-1", "--planned", "2030-01-01", *canary).code == 0
    planned = "planned 2030-01-01T00:00:00+00:00"
    assert states(served) == ["in force", f"next after web-1, {planned}, for web-a, {'ab' * 8}, 0 of 10 releases"]
    done = served.attest("reference", "promote", "web-2", "--retire-old", "2031-01-01")
    assert done.code == 0, done.err
    assert states(served) == ["retiring, until 2031-01-01T00:00:00+00:00", "in force"]
    progress = served.attest("reference", "progress", "web-2", "--json")
    assert progress.code == 0, progress.err
    assert json.loads(progress.out)["behind"] == 0
    assert json.loads(progress.out)["old"]["state"] == "retiring"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--planned", "2030-01-01"), "want it with next only"),
        (("--next", "web-1", "--canary-chip", "xy"), "want hexadecimal digits"),
        (("--next", "web-1", "--canary-releases", "0"), "want at least 1"),
        (("--next", "web-1", "--planned", "soon"), "want a date or time"),
        (("--next", "web-9"), "none of that name is in force"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_and_nothing_is_registered(
    served: Served, words: tuple[str, ...], said: str
) -> None:
    done = add(served, "web-2", *words)
    assert done.code in (3, 5, 10), done.err
    assert said in done.err
    assert states(served) == ["in force"]


def test_promoting_what_is_in_force_is_refused(served: Served) -> None:
    done = served.attest("reference", "promote", "web-1")
    assert "in force already" in done.err and done.code == 5
