"""``cvm exec``: run a command inside an attested guest."""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import ExitStack

from launcher.core.text import ConsoleFilter
from launcher.io.exec_client import Exit, Streams, Window
from launcher.io.exec_keys import new_key
from launcher.io.statedir import VmDir, existing, state_root
from launcher.service.executing import Command, execute

DESCRIPTION = """Run a command inside a guest, over a channel that ends in the guest itself: the host sees ciphertext.
It works only with a guest whose attestation the service accepted, and only for operators whose key the VM file names
under [exec], which is part of the measured command line. No file name is looked up on this host."""
EPILOG = """examples: cvm exec --new-key op.key
          cvm exec web-1 --key op.key -- /usr/bin/python3 -c 'print(1)'
          cvm exec web-1 --key op.key -t -- /bin/sh
exit status: the command's own, 128 + signal if one ended it, 124 when its time was over; 3 key or configuration,
  6 the guest's token does not stand, 7 the guest refuses, 8 service unavailable, 9 no answer, 10 not attested"""
_TIMED_OUT = 124
_DAY = 86400
_TERM = r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}"


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("name", metavar="VM", nargs="?", help="its name (cvm ps)")
    parser.add_argument("--key", metavar="FILE", help="your private key")
    parser.add_argument("--new-key", metavar="FILE", help="make a key; print what the VM file must say")
    parser.add_argument("--timeout", metavar="SECONDS", type=int, help="end the command then (600; a day with -t)")
    parser.add_argument(
        "-t", "--terminal", action="store_true", help="run it on a terminal like this one; implies --raw"
    )
    parser.add_argument("--raw", action="store_true", help="let escape codes in its output through to a terminal")
    parser.add_argument_group("-- COMMAND", "program and arguments, after two dashes")
    parser.set_defaults(command=[])


def quick(words: list[str]) -> Namespace | None:
    """What follows the first ``--`` is the command's, whatever it looks like; argparse would read options in it."""
    if "--" not in words:
        return None
    from launcher.cli import parser_of

    at = words.index("--")
    args = parser_of("exec", sys.modules[__name__]).parse_args(words[:at])
    args.command = words[at + 1 :]
    return args


def run(args: Namespace) -> int:
    """Run it; the exit status of the epilog."""
    if args.new_key is not None:
        sys.stdout.write(f'[exec]\noperators = ["{new_key(args.new_key)}"]\n')
        return 0
    words = args.command
    if args.name is None or args.key is None or not words:
        sys.stderr.write("cvm exec: want VM, --key FILE and -- COMMAND; or --new-key FILE\n")
        return 2
    timeout = args.timeout if args.timeout is not None else _DAY if args.terminal else 600
    if not 1 <= timeout <= _DAY:
        sys.stderr.write(f"cvm exec: --timeout: want 1 to {_DAY} seconds\n")
        return 2
    if args.terminal and not (os.isatty(0) and os.isatty(1)):
        sys.stderr.write("cvm exec: -t: standard input and output must be a terminal\n")
        return 2
    command = Command(words, timeout, args.key)
    vm = existing(state_root(), args.name)
    ended = _on_terminal(vm, command) if args.terminal else _plain(vm, command, raw=args.raw)
    if ended.timed_out:
        sys.stderr.write(f"cvm exec: ended after {timeout} s\n")
        return _TIMED_OUT
    return ended.code if ended.code >= 0 else 128 - ended.code


def _plain(vm: VmDir, command: Command, *, raw: bool) -> Exit:
    return execute(vm, command, Streams(_input(), _writer(1, raw=raw), _writer(2, raw=raw)))


def _on_terminal(vm: VmDir, command: Command) -> Exit:
    """Every key goes to the guest, and every escape code from it to this terminal: an attested guest may draw."""
    from launcher.io.terminal import raw, window_changes, window_size

    kind = os.environ.get("TERM", "")
    with window_changes() as changed, ExitStack() as lent:
        kind = kind if re.fullmatch(_TERM, kind) else "dumb"
        window = Window(kind, window_size, changed, lambda: lent.enter_context(raw(0)))
        return execute(vm, command, Streams(0, _writer(1, raw=True), _writer(2, raw=True), window))


def _input() -> int | None:
    """Standard input, unless it is closed."""
    try:
        os.fstat(0)
    except OSError:
        return None
    return 0


def _writer(descriptor: int, *, raw: bool) -> Callable[[bytes], None]:
    """Bytes as they are into a file or pipe; on a terminal without what could rewrite it."""
    clean = ConsoleFilter().feed if os.isatty(descriptor) and not raw else bytes

    def write(data: bytes) -> None:
        view = memoryview(clean(data))
        while view:
            view = view[os.write(descriptor, view) :]

    return write
