"""Real storage servers for tests: QEMU's own NBD server, tgt for iSCSI. Each ends with its ``with`` block."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from launcher.core.facts import QemuFacts
from launcher.io.process import end
from tests.until import PATIENCE


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(argv: Sequence[str], log: Path, *, port: int = 0, env: dict[str, str] | None = None) -> Iterator[None]:
    """A server that listens on ``port`` (0: do not wait) until the block ends."""
    with open(log, "wb") as out:
        child = subprocess.Popen(
            argv, stdout=out, stderr=out, env={**os.environ, **(env or {})}, start_new_session=True
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while port and not listens(port):
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{argv[0]} does not listen: {log.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(0.02)
        yield
    finally:
        end(child)


def listens(port: int) -> bool:
    """Whether somebody listens on that TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def nbd_server(qemu: QemuFacts, image: Path, export: str, *, tls: Path | None = None) -> Iterator[int]:
    """``qemu-nbd`` on a free port; ``tls``: folder with server-cert.pem, server-key.pem, ca-cert.pem."""
    port = free_port()
    argv = [*qemu.program("qemu-nbd"), "-f", "raw", "-t", "-e", "8", "-x", export, "-b", "127.0.0.1", "-p", str(port)]
    if tls is not None:
        argv += ["--object", f"tls-creds-x509,id=tls0,endpoint=server,dir={tls},verify-peer=yes", "--tls-creds", "tls0"]
    with running([*argv, str(image)], image.with_suffix(".nbd.log"), port=port, env=dict(qemu.env)):
        yield port


@contextmanager
def iscsi_server(image: Path, target: str, user: str, password: str) -> Iterator[int]:
    """``tgtd`` with one logical unit behind CHAP."""
    port, number = free_port(), str(os.getpid() % 30000)
    env = {"TGT_IPC_SOCKET": str(image.with_suffix(".ipc"))}
    path = f"{os.environ['PATH']}:/usr/sbin"
    argv = ["/usr/sbin/tgtd", "-f", "-C", number, "--iscsi", f"portal=127.0.0.1:{port}"]
    with running(argv, image.with_suffix(".tgt.log"), port=port, env=env):
        for words in (
            f"--op new --mode target --tid 1 -T {target}",
            f"--op new --mode logicalunit --tid 1 --lun 1 -b {image}",
            "--op bind --mode target --tid 1 -I ALL",
            f"--op new --mode account --user {user} --password {password}",
            f"--op bind --mode account --tid 1 --user {user}",
        ):
            subprocess.run(
                ["tgtadm", "-C", number, "--lld", "iscsi", *words.split()],
                check=True, env={**os.environ, **env, "PATH": path},
            )  # fmt: skip
        yield port
