"""``python -m launcher.service.background VM.toml``: the launcher behind ``cvm launch --detach``.

Its standard output is a pipe to the waiting ``cvm``: one line of JSON, ``{}`` once the state folder is its own, else
the error. After that it writes to ``launcher.log`` only.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser

from launcher.core import names
from launcher.core.migration import parse_target
from launcher.io.statedir import VmDir
from launcher.service.launching import LaunchOptions, launch
from policy.errors import CvmError


def main() -> int:
    """0 however the VM ended: its state tells."""
    parser = ArgumentParser(prog="python -m launcher.service.background")
    parser.add_argument("vm")
    parser.add_argument("--timeout", type=float)
    parser.add_argument("--hash-table")
    parser.add_argument("--incoming")
    args = parser.parse_args()
    try:
        incoming = None if args.incoming is None else parse_target(args.incoming, plain=True)  # checked by who asked
        launch(args.vm, LaunchOptions(_say, _started, args.hash_table, args.timeout, incoming))
    except CvmError as exc:
        _answer({"message": exc.message, "code": exc.code, "hint": exc.hint, "exit": getattr(exc, "exit_status", 9)})
        _say(f"failed: {exc.message}")
    except KeyboardInterrupt:
        _say("interrupted")
    return 0


def _started(vm: VmDir) -> None:
    """The folder is ours: from here on speak into the log."""
    descriptor = os.open(vm.file(names.LAUNCHER_LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    _answer({})


def _answer(document: dict[str, object]) -> None:
    """One line to whoever waits; nothing afterwards."""
    if sys.stdout.closed:
        return
    try:
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.close()
    except BrokenPipeError:
        return  # whoever waited has gone; the VM goes on


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
