"""The parent of a service's processes, in a process of its own: it takes over its process's signals."""

from __future__ import annotations

import subprocess
import sys

START = """
import os, signal, sys, time
from attest.web.supervisor import Supervisor
supervisor = Supervisor()
readable, writable = os.pipe()
"""


def said(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", START + program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_who_waits_for_children_notices_that_one_ended_instead_and_goes_on_with_the_others() -> None:
    assert said("""
good, bad = supervisor.start(lambda: time.sleep(600)), supervisor.start(lambda: sys.exit(3))
print(supervisor.all_ready(readable, 1, [good, bad]))
supervisor.retire([bad])
os.kill(os.getpid(), signal.SIGHUP)
print(supervisor.wait(lambda: print("reload") or os.kill(os.getpid(), signal.SIGTERM)))
""") == ["False", "reload", "0"]


def test_a_child_that_ends_by_itself_takes_the_others_along() -> None:
    assert said("""
supervisor.start(lambda: time.sleep(600))
supervisor.start(lambda: None)
print(supervisor.wait(lambda: None))
""") == ["1"]


def test_a_signal_while_children_start_ends_the_wait_and_reaches_them_all() -> None:
    assert said("""
supervisor.start(lambda: time.sleep(600))
os.kill(os.getpid(), signal.SIGTERM)
print(supervisor.all_ready(readable, 1, []), supervisor.wait(lambda: None))
""") == ["False", "0"]


def test_a_child_has_the_signals_of_a_program_that_was_just_started() -> None:
    assert said("""
def child():
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)]
    print(blocked, set(handlers) == {signal.SIG_DFL}, flush=True)
supervisor.start(child)
supervisor.wait(lambda: None)
""") == ["set()", "True"]
