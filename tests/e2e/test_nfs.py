"""A disk on a real NFS server. The client needs the portmapper at port 111, so server and launcher get a network of
their own; skipped where NFS-Ganesha is not installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.disk_world import real_qemu

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
pytestmark = [
    pytest.mark.qemu,
    pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root here"),
    pytest.mark.skipif(
        not (shutil.which("ganesha.nfsd", path=_PATH) and shutil.which("rpcbind", path=_PATH)), reason="no NFS server"
    ),
]
GANESHA = """
NFS_CORE_PARAM {{ Protocols = 3; NFS_Port = 12049; MNT_Port = 12050; Enable_NLM = false; Enable_RQUOTA = false;
 mount_path_pseudo = false; Plugins_Dir = "/usr/lib/x86_64-linux-gnu/ganesha"; }}
EXPORT {{ Export_Id = 1; Path = {folder}; Pseudo = /export; Protocols = 3; Access_Type = RW; Squash = No_Root_Squash;
 SecType = sys; Transports = TCP; FSAL {{ Name = VFS; }} }}
"""
INSIDE = """
import fcntl, socket, struct, subprocess, sys, time
from pathlib import Path
from tests.fakes.disk_world import qemu_io, running_disks
from tests.fakes.storage_servers import running
folder = Path(sys.argv[1])
with socket.socket() as some:
    fcntl.ioctl(some, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
server = ["ganesha.nfsd", "-F", "-f", str(folder / "g.conf"), "-L", str(folder / "g.log"), "-p", "/run/g.pid"]
text = f'[[disk]]\\n[disk.nfs]\\nhost = "127.0.0.1"\\nfile = "{folder}/export/a.img"\\n'
with running(["rpcbind", "-w", "-f"], folder / "rpc.log", port=111), running(server, folder / "g.out", port=12050):
    time.sleep(0.5)
    with running_disks(text, folder) as (qemu, vm, said):
        qemu_io(qemu, "disk0", "write -P 0x6e 4096 512")
        qemu_io(qemu, "disk0", "flush")
"""


def test_what_is_written_to_an_nfs_disk_is_on_the_server(tmp_path: Path, repo: Path) -> None:
    real_qemu("qemu-storage-daemon", "nfs")
    export = tmp_path / "export"
    export.mkdir(mode=0o755)
    (export / "a.img").write_bytes(bytes(1 << 20))
    (export / "a.img").chmod(0o666)
    export.chmod(0o777)
    for folder in tmp_path.parents:
        if folder.stat().st_uid == os.geteuid() and str(folder).startswith("/tmp/pytest"):
            folder.chmod(0o755)
    tmp_path.chmod(0o755)
    (tmp_path / "g.conf").write_text(GANESHA.format(folder=export))
    done = subprocess.run(
        ["unshare", "--net", "--mount", sys.executable, "-c", INSIDE, str(tmp_path)],
        cwd=repo, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:{_PATH}", "PYTHONPATH": str(repo)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert (export / "a.img").read_bytes()[4096 : 4096 + 512] == b"\x6e" * 512
