"""A real PostgreSQL server of the machine's own package, in a folder of its own, on a socket only."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_PLACES = ("/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt/postgresql")


def programs() -> Path | None:
    """The folder of ``initdb`` and ``postgres``, newest version first."""
    found = [path.parent for place in _PLACES for path in Path(place).glob("*/bin/initdb")]
    return max(found, default=None)


@dataclass(slots=True)
class PostgresServer:
    """``start`` and ``stop`` as often as a test likes; the data stays until :meth:`remove`.

    PostgreSQL refuses to run as root, so root hands it to the user its package made.
    """

    user: str = field(init=False)
    folder: Path = field(init=False)
    _bin: Path = field(init=False)
    _process: subprocess.Popen[bytes] | None = None
    _databases: int = 0

    def __post_init__(self) -> None:
        found = programs()
        if found is None:
            pytest.skip("no PostgreSQL server: apt-get install postgresql")
        self._bin = found
        self.user = "postgres" if os.geteuid() == 0 else getpass.getuser()
        # Memory, where there is some: a test machine's disk takes half a minute for a checkpoint. Nothing here loses
        # power. A short path, because a socket's has 107 characters at most.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"))
        if os.geteuid() == 0:
            entry = pwd.getpwnam(self.user)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        self._run("initdb", "-D", self.folder / "data", "-A", "peer", "-E", "UTF8", "--no-locale", "--no-sync")
        self.start()
        if os.geteuid() == 0:  # the tests themselves connect as root
            self._run("createuser", "-h", self.folder, "-s", "root")

    @property
    def pid(self) -> int | None:
        """The server's first process, the parent of all others."""
        return None if self._process is None else self._process.pid

    def new_database(self) -> str:
        """An empty database; its address."""
        self._databases += 1
        name = f"test{self._databases}"
        self._run("createdb", "-h", self.folder, name)
        return f"postgresql:///{name}?host={self.folder}"

    def start(self, *options: str) -> None:
        """Until it answers."""
        arguments = [self._bin / "postgres", "-D", self.folder / "data", "-k", self.folder, "-c", "listen_addresses="]
        arguments += ["-c", "recovery_init_sync_method=syncfs"]  # a crash test waits for recovery
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*map(str, arguments), *options],
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **self._as_user(),
            )
        for _ in range(1200):
            if subprocess.run([str(self._bin / "pg_isready"), "-q", "-h", str(self.folder)]).returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends open transactions and stops; SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        """Stop and forget everything."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [str(self._bin / program), *map(str, arguments)], capture_output=True, text=True, cwd="/", **self._as_user()
        )
        assert done.returncode == 0, done.stderr

    def _as_user(self) -> dict[str, object]:
        if os.geteuid() != 0:
            return {}
        entry = pwd.getpwnam(self.user)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
