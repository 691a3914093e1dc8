"""``cvm launch``: start a VM and watch it."""

from __future__ import annotations

import gc
import sys

from launcher.core.text import safe_text
from launcher.errors import GuestDenied, GuestFailed, LauncherError
from policy.plain_json import pretty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from launcher.io.statedir import VmDir

DESCRIPTION = """Start a VM and watch it: starting, booted, attested or refused, running, stopped.
Stays until the VM has ended; Ctrl-C ends it. With --detach returns once the VM has attested
(or, without [attestation], has booted) and leaves it running."""
EPILOG = """example: cvm launch web-1.toml --detach
exit status: 0 attested and ended well, 3 the file is wrong, 4 host not capable, 7 the service refused it,
9 firmware, guest or QEMU failed, or time was up, 10 it runs already, 130 interrupted"""


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("vm", metavar="VM.toml", help="the VM's file")
    parser.add_argument("--detach", action="store_true", help="return when it has attested; it goes on")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds,
        help="instead of the planned ones (cvm plan): what has not booted, or then attested, by then has failed. An "
        "ordinary VM that is not heard of is taken to run, and goes on",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument("--json", action="store_true", help="print the result as JSON (cvm.launch/1)")
    parser.add_argument(
        "--incoming", metavar="WHERE",
        help="wait at unix:/path or tcp:host:port for this VM to arrive from another host (cvm migrate)",
    )  # fmt: skip
    parser.add_argument("--plain", action="store_true", help="--incoming beyond this host, unencrypted")
    parser.add_argument(
        "--hash-table", metavar="FILE",
        help="TESTING, emulated platforms only: inject this boot hash table instead of the VM's own",
    )  # fmt: skip


class _Plain:
    """What argparse would have returned for a plain call."""

    __slots__ = ("detach", "hash_table", "incoming", "json", "plain", "quiet", "timeout", "vm")

    def __init__(self, words: list[str]) -> None:
        self.vm = next(word for word in words if word not in _PLAIN)
        self.detach, self.quiet, self.json = (word in words for word in _PLAIN)
        self.plain = False
        self.timeout: float | None = None
        self.incoming: str | None = None
        self.hash_table: str | None = None


_PLAIN = ("--detach", "--quiet", "--json")


def quick(words: list[str]) -> _Plain | None:
    """The options of a plain call; ``None`` leaves everything else (and every mistake) to argparse, which takes longer
    to load than the VM file to read.
    """
    rest = [word for word in words if word not in _PLAIN]
    return _Plain(words) if len(rest) == 1 and rest[0] and not rest[0].startswith("-") else None


def run(args: Namespace | _Plain) -> int:
    """Launch; 0 when it went well."""
    incoming = None
    if args.incoming is not None:
        from launcher.core.migration import parse_target

        incoming = parse_target(args.incoming, plain=args.plain)
    if args.detach:
        from launcher.service.detaching import detach

        document = detach(args.vm, _options_again(args), _say if not args.quiet else _silent)
    else:
        gc.disable()  # looking for cycles among what is being imported takes a twentieth of the start
        try:
            from launcher.service.launching import LaunchOptions, launch

            say = _silent if args.quiet else _say
            options = LaunchOptions(say, _nothing, args.hash_table, args.timeout, incoming)
            document = launch(args.vm, options).document()
        finally:
            gc.enable()  # the supervisor does so before
    if args.json:
        sys.stdout.write(pretty(document, "  ") + "\n")
        sys.stdout.flush()
    elif document["outcome"] in ("attested", "ran"):
        sys.stdout.write(_summary(document))
    return _verdict(document, as_json=args.json)


def _verdict(document: dict[str, Any], *, as_json: bool) -> int:
    """The exit status, said in words unless the JSON says it."""
    outcome = document["outcome"]
    if outcome in ("attested", "ran"):
        return 0
    if outcome == "interrupted":
        return 130
    error = _failure(document)
    if not as_json:
        raise error
    from launcher.exits import exit_status

    return exit_status(error)


def _failure(document: dict[str, Any]) -> LauncherError:
    """How the launch ended, as the error it is: of our own, of the service's, of the guest's."""
    message, hint = f"{document['name']}: {document['reason']}", document["hint"] or f"cvm logs {document['name']}"
    code = str(document["code"])
    if document["exit"] is not None:
        from launcher.exits import PassedOn

        return PassedOn({"message": message, "code": code, "hint": hint, "exit": document["exit"]})
    return (GuestDenied if document["outcome"] == "refused" else GuestFailed)(message, code=code, hint=hint)


def _summary(document: dict[str, object]) -> str:
    seconds = document["seconds"]
    times = seconds if isinstance(seconds, dict) else {}
    steps = [name for name in ("booted", "attested", "running", "stopped") if name in times]
    shown = ", ".join(f"{name} {times[name]:.1f} s" for name in steps)
    emulated = " (emulated: proves nothing about this host)" if document["emulated"] else ""
    digest = f", launch digest {document['launch_digest']}" if document["launch_digest"] else ""
    return f"{document['name']}: {document['state']}{emulated}: {shown}{digest}\n"


def _options_again(args: Namespace | _Plain) -> list[str]:
    options = [] if args.timeout is None else ["--timeout", str(args.timeout)]
    if args.incoming is not None:
        options += ["--incoming", args.incoming]
    return options if args.hash_table is None else [*options, "--hash-table", args.hash_table]


def _say(line: str) -> None:
    sys.stderr.write(safe_text(line, 4096) + "\n")
    sys.stderr.flush()


def _silent(line: str) -> None:
    del line


def _nothing(vm: VmDir) -> None:
    del vm


def _seconds(text: str) -> float:
    from argparse import ArgumentTypeError

    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86400:
        raise ArgumentTypeError(f"got {text[:40]!r}, want seconds between 0 and 86400")
    return value
