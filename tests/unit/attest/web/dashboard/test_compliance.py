"""Each control names records that exist and commands that parse."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from attest.audit import record as kinds
from attest.cli import _parser
from attest.web.dashboard.compliance import FAMILIES
from tools.compliance import text

from .conftest import Get

COMMANDS = sorted({command for family in FAMILIES for control in family.controls for command in control.commands})
KINDS = {value for name, value in vars(kinds).items() if name.isupper() and isinstance(value, str)}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command: str) -> None:
    program, *words = shlex.split(command)
    assert program == "attest"
    args = _parser(words[0]).parse_args(words)
    assert args.verb == words[0]


def test_every_kind_of_record_exists() -> None:
    for family in FAMILIES:
        for control in family.controls:
            assert control.kinds
            assert set(control.kinds) <= KINDS, control.id


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_page_links_each_control_to_its_newest_records(data: Get, family: object) -> None:
    found = data(f"/compliance/{family.name}.json")  # type: ignore[attr-defined]
    for control in found["controls"]:
        for item in control["newest"]:
            if item["number"] is not None:
                assert data(f"/records/{item['number']}.json")["record"]["kind"] == item["kind"]


def test_the_document_is_what_the_pages_say(repo: Path) -> None:
    """Written anew by ``python -m tools.compliance``."""
    assert (repo / "docs" / "COMPLIANCE.md").read_text() == text()
