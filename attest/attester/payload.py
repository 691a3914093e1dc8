"""The owner's program: started from the unlocked disk, its output passed on within bounds."""

from __future__ import annotations

import os
import select
import stat
import subprocess
import time
from codecs import getincrementaldecoder
from collections.abc import Callable
from pathlib import Path
from typing import IO

from attest.attester.errors import PayloadFailed

MAX_OUTPUT = 64 * 1024
# Each piece becomes one status line of at most 8 KiB, in which a byte may take six characters.
CHUNK = 1024


def command(run: str, root: Path | None, disk: Path | None) -> list[str]:
    """How the program ``run`` is started: inside ``root``, or where there is none from ``disk``."""
    if root is None:
        if disk is None:
            raise PayloadFailed(f"payload {run}: no disk to find it on")
        return [str(find_program(run, disk))]
    # A link is resolved inside the new root, by whoever executes it: only there does it mean what it says.
    if not os.path.lexists(root / run.lstrip("/")):
        raise PayloadFailed(f"payload {run}: not in the root file system")
    return ["/usr/bin/chroot", str(root), run]


def find_program(run: str, mounted: Path) -> Path:
    """``run`` (absolute, as in ``cvm.run``) on the disk mounted at ``mounted``; links must not lead off the disk."""
    path = mounted / run.lstrip("/")
    try:
        resolved = Path(os.path.realpath(path, strict=True))  # Path.resolve has its own error for loops in 3.11
        mode = resolved.stat().st_mode
    except OSError as exc:
        raise PayloadFailed(f"payload {run}: {exc.strerror}") from None
    if not resolved.is_relative_to(mounted.resolve()):
        raise PayloadFailed(f"payload {run}: leads to {resolved}, which is not on the disk")
    if not stat.S_ISREG(mode) or not mode & 0o111:
        raise PayloadFailed(f"payload {run}: is no executable file (mode {stat.filemode(mode)})")
    return resolved


class Payload:
    """A started program. ``output`` gets its text in pieces of at most 1 KiB, 64 KiB in all; the rest is read and
    dropped.
    """

    def __init__(self, words: list[str], disk: Path | None, output: Callable[[str], None]) -> None:
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"}
        if disk is not None:
            environment["CVM_DISK"] = str(disk)
        try:
            self._process = subprocess.Popen(
                words,
                cwd=disk or Path("/"),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as exc:
            raise PayloadFailed(f"payload {words[-1]}: cannot be started: {exc.strerror}") from None
        self._output = output
        self._left = MAX_OUTPUT
        self._decode = getincrementaldecoder("utf-8")("replace").decode

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait(self, seconds: float) -> int | None:
        """Pass output on until the program ends (its exit status) or ``seconds`` are over (``None``)."""
        pipe = self._process.stdout
        if pipe is None:
            raise TypeError("the payload's output is a pipe by construction")
        deadline = time.monotonic() + seconds
        ended = os.pidfd_open(self._process.pid) if self._process.returncode is None else -1
        try:
            waited: list[IO[bytes] | int] = [pipe, ended]
            while self._process.poll() is None and (left := deadline - time.monotonic()) > 0:
                ready, _, _ = select.select(waited, [], [], left)
                if pipe in ready and not self._read(pipe.fileno()):
                    waited = [ended]  # output closed, program still there
        finally:
            if ended >= 0:
                os.close(ended)
        if self._process.returncode is None:
            return None
        # What it had written when it ended is still in the pipe; a child it left behind may hold the pipe open for
        # ever.
        while select.select([pipe], [], [], 0)[0] and self._read(pipe.fileno()):
            pass
        return self._process.returncode

    def _read(self, fd: int) -> bool:
        """Pass one piece on; false at the end of the output."""
        data = os.read(fd, CHUNK)
        self._pass_on(data)
        return bool(data)

    def _pass_on(self, data: bytes) -> None:
        if self._left <= 0 or not data:
            return
        kept = data[: self._left]
        self._left -= len(kept)
        self._output(self._decode(kept))
        if self._left <= 0:
            self._output(f"\n[output longer than {MAX_OUTPUT} bytes: the rest is not shown]\n")
