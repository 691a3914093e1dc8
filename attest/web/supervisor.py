"""The parent of a service's processes: it starts them, forwards what it is told, and notices when one ends by itself.

Signals are noted by handlers that do nothing else, and acted on in one loop that a pipe wakes: nothing happens at a
moment nobody thought of. SIGTERM and SIGINT end everything; SIGHUP asks for the settings to be read again.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 0.5
"""Between two looks, while readiness is waited for, at whether a child has ended instead."""
_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Supervisor:
    """Child processes; what happens to one happens to the others. One for a process: it takes over its signals."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._leaving: set[int] = set()
        self._stop = self._again = False
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in _HEARD:
            signal.signal(number, self._note)

    def start(self, run: Callable[[], None]) -> int:
        """A process of its own for ``run``, which ends with it and with this one; returns its id."""
        with self.forking() as begin:
            child = os.fork()
            if child:
                self._running.add(child)
                return child
            code = 1
            try:
                begin()
                run()
            except SystemExit as exc:
                code = exc.code if isinstance(exc.code, int) else 1
            finally:
                if sys.exc_info()[0] is not None:
                    sys.excepthook(*sys.exc_info())  # nobody else would say it
                os._exit(code)

    @contextmanager
    def forking(self) -> Iterator[Callable[[], None]]:
        """Around a fork: no signal is taken in between. The child calls what this gives first of all; the parent calls
        :meth:`add` where it did not use :meth:`start`."""
        parent, before = os.getpid(), signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)

        def begin() -> None:
            """Signals as a program finds them, and the kernel's word that this ends with the parent."""
            signal.set_wakeup_fd(-1)
            for number in _HEARD:
                signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
            _die_with(parent)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

        try:
            yield begin
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def add(self, child: int) -> None:
        """One more."""
        self._running.add(child)

    def all_ready(self, readable: int, reports: int, children: Iterable[int]) -> bool:
        """Whether so many bytes came through the pipe before one of ``children`` ended, or we were told to stop."""
        missing = reports
        while missing > 0 and not self._stop:
            if select.select([readable], [], [], _LOOK_SECONDS)[0]:
                data = os.read(readable, missing)
                if not data:
                    return False
                missing -= len(data)
            elif any(map(_has_ended, children)):
                return False
        return missing <= 0

    def retire(self, children: Iterable[int]) -> None:
        """Have these end in good order; nobody minds that they do."""
        for child in self._running.intersection(children):
            self._running.discard(child)
            self._leaving.add(child)
            os.kill(child, signal.SIGTERM)

    def wait(self, reload: Callable[[], None]) -> int:
        """Until all children are gone; returns the exit code of the service. ``reload`` is called at each SIGHUP."""
        ending = False
        while True:
            alone = self._reap()
            if (self._stop or alone) and not ending:
                ending = True
                self.retire(tuple(self._running))
            if not self._running and not self._leaving:
                return 0 if self._stop else 1
            if self._again and not ending:
                self._again = False
                reload()
                continue
            select.select([self._woken], [], [])
            self._forget_wakes()

    def _reap(self) -> bool:
        """Take note of those that ended; whether one did by itself."""
        alone = False
        while self._running or self._leaving:
            child, _ = os.waitpid(-1, os.WNOHANG)
            if not child:
                break
            alone = alone or child in self._running
            self._running.discard(child)
            self._leaving.discard(child)
        return alone

    def _forget_wakes(self) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except BlockingIOError:
            return

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._stop = self._stop or number in (signal.SIGTERM, signal.SIGINT)
        self._again = self._again or number == signal.SIGHUP


def _has_ended(child: int) -> bool:
    """Without taking note of it."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _die_with(parent: int) -> None:
    """The kernel ends this process when the parent is gone, however it went (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(1)
