"""Which folders are shared with a guest, and which are not; the daemon itself is tried with a real guest."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from launcher.cli import main
from launcher.core.hardware import Share
from launcher.errors import PlanRefused
from launcher.io.virtiofs import _pair, check_share
from tests.unit.launcher.service.conftest import Scene, chip, machine, scene

__all__ = ["chip", "machine", "scene"]  # fixtures


def refusal(path: Path, *, readonly: bool = True) -> str:
    with pytest.raises(PlanRefused) as caught:
        check_share(Share(str(path), "x", readonly=readonly))
    return caught.value.code


def test_what_is_not_there_and_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "absent") == "share.missing"
    assert refusal(tmp_path / "file" / "below") == "share.missing"
    assert refusal(tmp_path / "file") == "share.kind"
    check_share(Share(str(tmp_path), "x"))


def test_nobody_else_can_reach_the_socket_of_a_share(tmp_path: Path) -> None:
    """An abstract name stands in /proc/net/unix, and whoever connects first has the folder."""
    listening, connected = _pair(str(tmp_path))
    with listening, connected, socket.socket(socket.AF_UNIX) as stranger:
        assert listening.getsockname().startswith("/") and os.listdir(tmp_path) == []
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            stranger.connect(listening.getsockname())
        accepted, _ = listening.accept()
        with accepted:
            connected.sendall(b"ours")
            assert accepted.recv(8) == b"ours"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_a_folder_of_roots_is_shown_and_never_changed_by_a_guest(tmp_path: Path) -> None:
    assert refusal(tmp_path, readonly=False) == "share.root"
    check_share(Share(str(tmp_path), "x"))
    os.chown(tmp_path, 12345, -1)
    check_share(Share(str(tmp_path), "x", readonly=False))


def test_a_launch_says_so_before_anything_is_started(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    path = scene()
    path.write_text(
        path.read_text().replace('mode = "off"', 'mode = "auto"') + '\n[[share]]\npath = "absent"\ntag = "x"\n'
    )
    assert main(["launch", str(path)]) == 3
    assert f"share x: {path.parent}/absent: No such file or directory [share.missing]" in capsys.readouterr().err
    assert not (path.parents[1] / "state").exists()
