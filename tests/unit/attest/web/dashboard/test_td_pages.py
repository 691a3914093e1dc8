"""A TD's decision: five registers, the events of its log, and a command line that attacks whoever reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from markupsafe import escape

from attest.evidence import event_types as ev
from attest.evidence.eventlog import CCEL, parse_event_log
from attest.verifier.eventlog import replay_rtmrs
from tests.fakes.dashboard_world import HOSTILE, pages_over
from tests.fakes.eventlogs import direct_boot_log, event
from tests.unit.attest.broker.test_explain_td import register
from tests.unit.attest.broker.test_td_transcripts import TdWorld, refused

from .test_hostile_text import FORBIDDEN


def decision(tmp_path: Path, log: bytes) -> tuple[FlaskClient, int]:
    """The pages of a service that refused a TD with this log, and the decision's number."""
    world = TdWorld(tmp_path / "td", None)
    register(world, "good", direct_boot_log())
    rtmrs: dict[str, Any] = {
        f"rtmr{index}": value for index, value in enumerate(replay_rtmrs(parse_event_log(log, CCEL)))
    }
    error = refused(world.client(log=log, **rtmrs).handshake)
    client = pages_over(world.service).test_client()
    client.environ_base["HTTP_HOST"] = "127.0.0.1"
    return client, int(error.information["decision"])


def test_the_picture_shows_the_register_and_the_event_that_differ(tmp_path: Path) -> None:
    client, number = decision(tmp_path, direct_boot_log(initrd=b"evil"))
    found: Any = client.get(f"/decisions/{number}.json").json
    states = {item["name"]: item["state"] for item in found["launch"]["registers"]}
    assert states == {"MRTD": "same", "RTMR0": "same", "RTMR1": "same", "RTMR2": "differs", "RTMR3": "same"}
    assert [item["name"] for item in found["launch"]["events"] if item["state"] == "differs"] == ["initrd"]
    text = client.get(f"/decisions/{number}").text
    assert 'class="input input-differs"' in text
    assert "not as expected" in text


@pytest.mark.parametrize("hostile", [HOSTILE, "console=\u200fttyS0\x9b31m</code><script>alert(4)</script>"])
def test_a_hostile_command_line_in_the_event_log_is_shown_as_escapes(tmp_path: Path, hostile: str) -> None:
    client, number = decision(
        tmp_path, direct_boot_log(event(3, ev.EV_IPL, f"kernel_cmdline: {hostile}".encode() + b"\0"))
    )
    for path in (f"/decisions/{number}", f"/records/{number}"):
        text = client.get(path).text
        assert not FORBIDDEN.search(text), path
        assert "<script" not in text, path
    shown = client.get(f"/decisions/{number}").text
    assert str(escape("<script>alert(")) in shown
    assert "\\x" in shown
