"""HAProxy of the machine's own package in front of several services: one connection to each in turn, TLS passed on."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fakes.storage_servers import listens
from tests.until import PATIENCE, until

_CONFIG = """\
global
    maxconn 512
defaults
    mode tcp
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    retries 3
    option redispatch 1
frontend guests
    bind 127.0.0.1:{port}
    default_backend replicas
backend replicas
    balance roundrobin
"""


@dataclass
class Balancer:
    """``ports`` are the replicas'."""

    folder: Path
    ports: Sequence[int]
    port: int = 0
    process: subprocess.Popen[bytes] = field(init=False)

    def __enter__(self) -> Balancer:
        program = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        if program is None:
            pytest.skip("no HAProxy: apt-get install haproxy")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        servers = [f"    server r{n} 127.0.0.1:{port} check inter 500ms fall 1" for n, port in enumerate(self.ports)]
        config = self.folder / "haproxy.cfg"
        config.write_text(_CONFIG.format(port=self.port) + "\n".join(servers) + "\n")
        with (self.folder / "haproxy.log").open("wb") as log:
            self.process = subprocess.Popen([program, "-db", "-f", str(config)], stdout=log, stderr=log)
        until(lambda: self.process.poll() is not None or listens(self.port), "HAProxy listens")
        assert self.process.poll() is None, (self.folder / "haproxy.log").read_text()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
