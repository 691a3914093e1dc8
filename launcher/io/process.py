"""Start children that never outlive their launcher."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Protocol

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Child(Protocol):
    """What is used of a started process: a :class:`subprocess.Popen`, or one that was adopted."""

    pid: int

    @property
    def stdin(self) -> IO[bytes] | None:
        """Its standard input, when it has a pipe."""

    def poll(self) -> int | None:
        """Its return code, once it has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Its return code; raises :class:`subprocess.TimeoutExpired`."""


def spawn(
    argv: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    stderr: IO[bytes],
    pipes: bool = False,
    keep: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in its own session, with ``env`` added to the environment; the kernel kills it when this process
    dies, however it dies. ``pipes``: keep its stdin and stdout, else both are ``/dev/null``. ``keep``: descriptors it
    inherits. Raises OSError.

    Call from the main thread: PR_SET_PDEATHSIG follows the thread that forked.
    """
    channel = subprocess.PIPE if pipes else subprocess.DEVNULL
    return subprocess.Popen(
        list(argv),
        cwd=cwd,
        env={**os.environ, **env},
        stdin=channel,
        stdout=channel,
        stderr=stderr,
        start_new_session=True,
        pass_fds=keep,
        preexec_fn=_die_with(os.getpid()),  # one thread, and libc is loaded before the fork
    )


def own_module(name: str, *words: str) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of a module of this program in a process of its own, wherever it is installed."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)
    return [sys.executable, "-P", "-m", name, *words], {**os.environ, "PYTHONPATH": paths}


def _die_with(parent: int) -> Callable[[], None]:
    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(1)

    return prepare


def end(child: Child, *, patience: float = 2.0) -> int:
    """End a child and everything in its session: SIGTERM, ``patience`` seconds, SIGKILL. Its return code."""
    if child.stdin is not None:
        with contextlib.suppress(OSError):
            child.stdin.close()
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience)
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGKILL)
    code = child.wait()
    _signal_group(child.pid, signal.SIGKILL)  # whatever it may have left behind in its group
    return code


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def cpu_seconds(pid: int) -> float:
    """Processor time a process has used (utime + stime); 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
