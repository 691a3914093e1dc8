"""Start children that never outlive their launcher."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

from launcher.io.libc import PR_SET_PDEATHSIG, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import IO, NoReturn, Protocol

    class Child(Protocol):
        """What is used of a started process: a :class:`subprocess.Popen`, or a :class:`Forked` one."""

        pid: int

        @property
        def stdin(self) -> IO[bytes] | None:
            """Its standard input, when it has a pipe."""

        def poll(self) -> int | None:
            """Its return code, once it has ended."""

        def wait(self, timeout: float | None = None) -> int:
            """Its return code; raises :class:`subprocess.TimeoutExpired`."""


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Forked:
    """A child of this process that no :class:`subprocess.Popen` made, and as one where it is used."""

    stdin: IO[bytes] | None = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its return code once it has ended."""
        if self.returncode is None:
            try:
                found, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # it ended, and an interrupt came before its status was kept
                found, status = self.pid, 0
            if found:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its return code; raises :class:`subprocess.TimeoutExpired`."""
        if self.poll() is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                if not select.select([descriptor], [], [], timeout)[0]:
                    from subprocess import TimeoutExpired  # 7 ms, and hardly any child is waited for in vain

                    raise TimeoutExpired(str(self.pid), timeout or 0.0)
            finally:
                os.close(descriptor)
        while (code := self.poll()) is None:
            time.sleep(0.001)
        return code


def spawn(
    argv: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    stderr: IO[bytes],
    pipes: bool = False,
    keep: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in its own session, with ``env`` and :func:`shown_environment`; the kernel kills it when this
    process dies, however it dies. ``pipes``: keep its stdin and stdout, else both are ``/dev/null``. ``keep``:
    descriptors it inherits. Raises OSError.

    Call from the main thread: PR_SET_PDEATHSIG follows the thread that forked.
    """
    import subprocess  # 7 ms, and QEMU itself is forked

    channel = subprocess.PIPE if pipes else subprocess.DEVNULL
    return subprocess.Popen(
        list(argv),
        cwd=cwd,
        env={**shown_environment(), **env},
        stdin=channel,
        stdout=channel,
        stderr=stderr,
        start_new_session=True,
        pass_fds=keep,
        preexec_fn=_die_with(os.getpid()),  # one thread, and libc is loaded before the fork
    )


_SHOWN = frozenset(("PATH", "LANG", "TZ"))


def shown_environment() -> dict[str, str]:
    """Of this process's environment what tells a guest's program the language and the time: the rest may hold secrets,
    and whoever takes that program over has all it was given.
    """
    return {name: value for name, value in os.environ.items() if name in _SHOWN or name.startswith("LC_")}


def own_module(name: str, *words: str) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of a module of this program in a process of its own, wherever it is installed."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)
    return [sys.executable, "-P", "-m", name, *words], {**os.environ, "PYTHONPATH": paths}


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """What would end this program waits until the end of this: whoever starts a child knows it, and can end it, before
    an interruption comes. By handlers: a masked signal would go to another thread. Main thread only.
    """
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _frame: came.append(number)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


def fork(task: Callable[[], NoReturn], *, cwd: str, stderr: IO[bytes], keep: Sequence[int] = ()) -> int:
    """As :func:`spawn`, but the child goes on in ``task`` instead of a program, which saves an interpreter's start; its
    pid. ``task`` ends in exec or :func:`os._exit`; whatever else it does ends the child with status 126. ``keep``:
    descriptors it may use; all others are closed. Signals are the default ones there. Raises OSError.
    """
    parent = os.getpid()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _run_child(task, parent, cwd, stderr.fileno(), keep)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return pid


def _run_child(task: Callable[[], NoReturn], parent: int, cwd: str, stderr: int, keep: Sequence[int]) -> NoReturn:
    """Never comes back into the copy of the launcher's code that it was called from."""
    try:
        for number in ENDING:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        _die_with(parent)()
        os.dup2(stderr, 2)
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        _close_all_but(keep)
        os.chdir(cwd)
        task()
    except BaseException as exc:  # noqa: BLE001  whatever it is, it must not unwind into the launcher's code
        os.write(2, f"{type(exc).__name__}: {exc}\n".encode())
    finally:
        os._exit(126)


def _close_all_but(keep: Sequence[int]) -> None:
    low = 3
    for descriptor in sorted({number for number in keep if number > 2}):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _die_with(parent: int) -> Callable[[], None]:
    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(1)

    return prepare


def end(child: Child, *, patience: float = 2.0) -> int:
    """End a child and everything in its session: SIGTERM, ``patience`` seconds, SIGKILL. Its return code."""
    from subprocess import TimeoutExpired

    if child.stdin is not None:
        with contextlib.suppress(OSError):
            child.stdin.close()
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutExpired):
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
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  pathlib costs start-up time
            fields = file.read().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
