"""A Ceph cluster of one monitor and one object store on files of a temporary folder (Debian's ceph-mon and ceph-osd)."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.fakes.storage_servers import free_port, running
from tests.until import until

PROGRAMS = ("ceph-mon", "ceph-osd", "ceph", "rbd", "ceph-authtool", "monmaptool")
CONF = """[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}
public addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon data = {home}/mon
osd data = {home}/osd
osd objectstore = bluestore
bluestore block size = 1073741824
bluestore block create = true
osd memory target = 939524096
run dir = {home}
admin socket = {home}/$name.asok
log file = {home}/$name.log
pid file = {home}/$name.pid
keyring = {home}/keyring
mon data avail crit = 0
mon data avail warn = 0
"""


class Cluster(NamedTuple):
    """``conf`` of the administrator, ``monitor`` as HOST:PORT, ``key_file`` of user ``web``."""

    conf: Path
    monitor: str
    key_file: Path

    def command(self, *words: str) -> str:
        """One of Ceph's programs as the administrator; what it prints."""
        done = subprocess.run(
            [words[0], "-c", str(self.conf), *words[1:]], capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout


def ceph_is_here() -> bool:
    """Whether all programs are installed."""
    return all(shutil.which(name) for name in PROGRAMS)


@contextmanager
def ceph_cluster(home: Path, image: str, size: str) -> Iterator[Cluster]:
    """Pool ``rbd`` with one image, and a user ``web`` who may use the pool and nothing else."""
    fsid, v1, v2 = str(uuid.uuid4()), free_port(), free_port()
    for name in ("mon", "osd"):
        (home / name).mkdir(parents=True)
    conf, keyring = home / "ceph.conf", str(home / "keyring")
    conf.write_text(CONF.format(fsid=fsid, v1=v1, v2=v2, home=home))
    cluster = Cluster(conf, f"127.0.0.1:{v1}", home / "web.key")
    _tool("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    caps = [word for part in ("mon", "osd", "mgr") for word in ("--cap", part, "allow *")]
    _tool("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *caps)
    addresses = f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]"
    _tool("monmaptool", "--create", "--addv", "a", addresses, "--fsid", fsid, str(home / "monmap"))
    cluster.command("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(home / "monmap"), "--keyring", keyring)
    with running(["ceph-mon", "-c", str(conf), "-i", "a", "-f"], home / "mon.out", port=v1):
        disk, key = str(uuid.uuid4()), str(home / "osd" / "keyring")
        cluster.command("ceph", "osd", "new", disk)
        _tool("ceph-authtool", key, "--create-keyring", "--gen-key", "-n", "osd.0")
        cluster.command("ceph", "auth", "add", "osd.0", "osd", "allow *", "mon", "allow profile osd", "-i", key)
        cluster.command("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk, "--keyring", key)
        with running(["ceph-osd", "-c", str(conf), "-i", "0", "-f", "--keyring", key], home / "osd.out"):
            cluster.command("ceph", "osd", "pool", "create", "rbd", "4")
            _wait_for_the_store(cluster)
            cluster.command("rbd", "create", "--size", size, "--pool", "rbd", image, "--image-feature", "layering")
            caps = ["mon", "profile rbd", "osd", "profile rbd pool=rbd"]
            cluster.key_file.write_text(cluster.command("ceph", "auth", "get-or-create-key", "client.web", *caps))
            yield cluster


def _tool(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=60)


def _wait_for_the_store(cluster: Cluster) -> None:
    until(lambda: "1 up" in cluster.command("ceph", "osd", "stat"), "the object store is up")
