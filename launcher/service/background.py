"""``python -m launcher.service.background VM.toml``: the launcher behind ``cvm launch --detach``.

Its standard output is a pipe to the waiting ``cvm``: lines of JSON, ``{}`` once the state folder is its own, and the
error that ended it. Everything else goes to ``launcher.log``.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from argparse import ArgumentParser

from launcher.core import names
from launcher.core.migration import parse_target
from launcher.exits import exit_status
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
        _answer({"message": exc.message, "code": exc.code, "hint": exc.hint, "exit": exit_status(exc)})
        _say(f"failed: {exc.message}")
    except KeyboardInterrupt:
        _say("interrupted")
    return 0


def _started(vm: VmDir) -> None:
    """The folder is ours: from here on speak into the log."""
    with vm.log(names.LAUNCHER_LOG) as log:
        os.dup2(log.fileno(), 2)
    _answer({})


def _answer(document: dict[str, object]) -> None:
    """One line to whoever waits, or waits no more: the VM goes on."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(document).encode("ascii") + b"\n")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
