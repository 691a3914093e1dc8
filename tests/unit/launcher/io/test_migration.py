"""The place where a moving VM arrives."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.core.migration import parse_target
from launcher.errors import StateUnusable
from launcher.io.migration import connect, listen


def test_a_socket_an_earlier_launcher_left_is_taken_over_and_is_this_users_only(tmp_path: Path) -> None:
    target = parse_target(f"unix:{tmp_path}/m.sock")
    listen(target).close()
    with listen(target), connect(target):
        assert (tmp_path / "m.sock").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(StateUnusable, match="Address already in use"):
        listen(parse_target(f"unix:{path}"))
    assert path.read_text() == "data"


def test_nobody_waiting_is_said_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable, match="has to wait there first"):
        connect(parse_target(f"unix:{tmp_path}/nobody"))
