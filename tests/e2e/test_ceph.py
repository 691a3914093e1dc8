"""A disk on a real Ceph cluster through the storage daemon in its jail: ``make test-ceph``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import StorageFailed
from launcher.io import storage_daemon
from tests.fakes.ceph import Cluster, ceph_cluster, ceph_is_here
from tests.fakes.disk_world import qemu_io, real_qemu, running_disks

pytestmark = [pytest.mark.qemu, pytest.mark.skipif(not ceph_is_here(), reason="no Ceph here: make test-ceph")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ceph_cluster(tmp_path_factory.mktemp("ceph"), "web", "16M") as found:
        yield found


def disk(cluster: Cluster, image: str = "web", key: str = "") -> str:
    return f"""
[[disk]]
[disk.rbd]
pool = "rbd"
image = "{image}"
user = "web"
monitors = ["{cluster.monitor}"]
key_file = "{key or cluster.key_file}"
"""


def test_what_is_written_to_an_rbd_disk_is_in_the_cluster(cluster: Cluster, tmp_path: Path) -> None:
    real_qemu("qemu-storage-daemon", "rbd")
    with running_disks(disk(cluster), tmp_path) as (qemu, _vm, _said):
        qemu_io(qemu, "disk0", "write -P 0xc3 4096 512")
        qemu_io(qemu, "disk0", "flush")
    cluster.command("rbd", "export", "rbd/web", str(tmp_path / "exported"))
    assert (tmp_path / "exported").read_bytes()[4096 : 4096 + 512] == b"\xc3" * 512


def test_an_image_that_is_not_there_is_named(cluster: Cluster, tmp_path: Path) -> None:
    real_qemu("qemu-storage-daemon", "rbd")
    with (
        pytest.raises(StorageFailed, match="No such file or directory"),
        running_disks(disk(cluster, image="other"), tmp_path),
    ):
        pass


def test_a_key_of_somebody_else_opens_nothing(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client asks again and again for minutes, so the launcher is the one who gives up."""
    real_qemu("qemu-storage-daemon", "rbd")
    monkeypatch.setattr(storage_daemon, "_PATIENCE", 4.0)
    words = cluster.command("ceph", "auth", "print-key", "client.admin")
    (tmp_path / "admin.key").write_text(words)
    text = disk(cluster, key=str(tmp_path / "admin.key"))
    with pytest.raises(StorageFailed, match="no answer within 4 s"), running_disks(text, tmp_path):
        pass
