"""Use case *launch --detach*: a launcher in the background, and a look at it until the VM has attested."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from launcher.core import names
from launcher.core.states import STARTING
from launcher.errors import LauncherError
from launcher.exits import BUG, PassedOn
from launcher.io.process import own_module
from launcher.io.statedir import VmDir, state_root
from launcher.io.tail import Tail
from launcher.service.launching import prepare_to_launch
from policy.errors import CvmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_POLL = 0.1


def detach(path: str, options: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Start the launcher, wait for the guest's decision, return the result so far (``cvm.launch/1``)."""
    prepared = prepare_to_launch(path)  # its errors are better said here than through a pipe
    vm = VmDir(state_root(), prepared.config.name)
    child = _start(path, options)
    try:
        _wait_until_ready(child)
        return _follow(vm, child, prepared.plan.attests, say)
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        child.wait()
        raise


def _start(path: str, options: Sequence[str]) -> subprocess.Popen[bytes]:
    argv, env = own_module("launcher.service.background", path, *options)
    return subprocess.Popen(
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait_until_ready(child: subprocess.Popen[bytes]) -> None:
    """The background launcher writes one line of JSON: ``{}`` when the state folder is its own, or its error."""
    pipe = child.stdout
    if pipe is None:
        raise TypeError("started with a pipe")
    line = pipe.readline(1 << 16)
    try:
        document = json.loads(line)
    except ValueError:
        words = "the launcher in the background ended without a word"
        document = {"message": words, "code": "bug", "hint": None, "exit": BUG}
    if document:
        child.wait()
        raise PassedOn(document)


def _follow(vm: VmDir, child: subprocess.Popen[bytes], attests: bool, say: Callable[[str], None]) -> dict[str, Any]:
    log = Tail(vm.file(names.LAUNCHER_LOG))
    wanted = "attested" if attests else "booted"
    ended = os.pidfd_open(child.pid)
    try:
        while True:
            over = bool(select.select([ended], [], [], _POLL)[0])
            for line in log.read().decode("utf-8", "replace").splitlines():
                say(line)
            result = _result(vm)
            if over or (result is not None and (wanted in result["seconds"] or result["code"])):
                if over:
                    child.wait()
                    _raise_last_words(child, result)
                return _settled(vm, result)
    finally:
        os.close(ended)


def _raise_last_words(child: subprocess.Popen[bytes], result: dict[str, Any] | None) -> None:
    """An error from before there was a record of the launch; what came later is in the result."""
    if result is None and child.stdout is not None:
        os.set_blocking(child.stdout.fileno(), False)  # what it had started may hold the pipe open
        line = child.stdout.readline(1 << 16)
        if line:
            raise PassedOn(json.loads(line))


def _result(vm: VmDir) -> dict[str, Any] | None:
    try:
        return vm.read_json(names.RESULT_FILE)
    except CvmError:
        return None


def _settled(vm: VmDir, result: dict[str, Any] | None) -> dict[str, Any]:
    """The result once the launcher has written what it knows."""
    deadline = time.monotonic() + 10
    while result is None or result["state"] == STARTING:
        if time.monotonic() > deadline:
            raise LauncherError(f"VM {vm.name}: the launcher in the background left no result", code="bug")
        time.sleep(_POLL)
        result = _result(vm)
    return result
