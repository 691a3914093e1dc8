"""``cvm exec``: run a command inside an attested guest."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from launcher.core.text import ConsoleFilter
from launcher.io.exec_client import Streams
from launcher.io.exec_keys import new_key
from launcher.io.statedir import existing, state_root
from launcher.service.executing import Command, execute

DESCRIPTION = """Run a command inside a guest, over a channel that ends in the guest itself: the host sees ciphertext.
It works only with a guest whose attestation the service accepted, and only for operators whose key the VM file names
under [exec], which is part of the measured command line. No file name is looked up on this host."""
EPILOG = """examples: cvm exec --new-key op.key
          cvm exec web-1 --key op.key -- /usr/bin/python3 -c 'print(1)'
exit status: the command's own, 128 + signal if one ended it, 124 when its time was over; 3 key or configuration,
  6 the guest's token does not stand, 7 the guest refuses, 8 service unavailable, 9 no answer, 10 not attested"""
_TIMED_OUT = 124


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("name", metavar="VM", nargs="?", help="its name (cvm ps)")
    parser.add_argument("--key", metavar="FILE", help="your private key")
    parser.add_argument("--new-key", metavar="FILE", help="make a key; print what the VM file must say")
    parser.add_argument("--timeout", metavar="SECONDS", type=int, default=600, help="end the command then (600)")
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
    if not 1 <= args.timeout <= 86400:
        sys.stderr.write("cvm exec: --timeout: want 1 to 86400 seconds\n")
        return 2
    vm = existing(state_root(), args.name)
    streams = Streams(_input(), _writer(1, raw=args.raw), _writer(2, raw=args.raw))
    ended = execute(vm, Command(words, args.timeout, args.key), streams)
    if ended.timed_out:
        sys.stderr.write(f"cvm exec: ended after {args.timeout} s\n")
        return _TIMED_OUT
    return ended.code if ended.code >= 0 else 128 - ended.code


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
