"""The program ``attest``: verifies evidence, keeps keys and reference values, serves guests, answers auditors.

Only ``sys`` and ``argparse`` are imported here; a verb's module is imported when the verb is used, so that ``--help``
and small verbs start fast. A verb module ``attest.cli.<verb>`` has ``DESCRIPTION``, ``add_arguments(parser)`` and
``run(args) -> int``.
"""

from __future__ import annotations

import argparse
import sys

VERBS = {
    "init": "make a service's folder: certificates, keys, database, policy",
    "serve": "run the attestation service",
    "certificate": "issue client certificates of operators and auditors, or take them back",
    "backup": "write the whole service to one encrypted file",
    "restore": "restore a backup into an empty place",
    "drill": "try a backup: restore it, open its keys, start it, forget it",
    "whoami": "show what a service takes you for, and what you may do there",
    "expiry": "show what ends when: certificates, collateral, keys, reference values",
    "db": "show or upgrade the database's tables",
    "dashboard": "serve the auditors' pages, read-only, as a program of their own",
    "evidence": "show or verify a report, quote or event log",
    "reference": "add, list, retire or explain reference values",
    "host": "register hosts whose signed launch records are believed, and record launches",
    "vm": "forget where a VM was seen, so that it may move",
    "key": "store or list the resources that guests may get",
    "token": "show, introspect or revoke attestation tokens; rotate their keys",
    "policy": "check, test, compare, sign, apply, roll back or replay an appraisal policy",
    "collateral": "fetch, list, bundle or import AMD's and Intel's collateral",
    "audit": "list, show or verify the decisions on record",
}

# Exit codes, the same in both programs.
OK, BUG, USAGE, CONFIG, INPUT, FAILED, DENIED, UNAVAILABLE, STATE = 0, 1, 2, 3, 5, 6, 7, 8, 10
INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code. Errors of ours are one line on standard error, bugs are a traceback."""
    words = sys.argv[1:] if argv is None else argv
    parser = _parser(words[0] if words else "")
    args = parser.parse_args(words)
    if args.verb is None:
        parser.print_help(sys.stderr)
        return USAGE
    from policy.errors import CvmError

    try:
        code = args.run(args)
        sys.stdout.flush()
    except CvmError as error:
        return _refuse(error, as_json=getattr(args, "json", False))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return OK
    return int(code)


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attest",
        description="Verifies what a confidential VM is, and releases its keys.",
        epilog="exit codes: 0 ok, 1 bug, 2 usage, 3 configuration, 5 evidence malformed, 6 verification failed, "
        "7 denied by policy, 8 unavailable (retry), 10 not found or wrong state, 130 interrupted",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    if verb == "--version":
        from importlib.metadata import version

        parser.exit(0, f"attest {version('cvm')}\n")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for name, text in VERBS.items():
        child = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
        if name == verb:
            _load(name, child)
    return parser


def _load(name: str, parser: argparse.ArgumentParser) -> None:
    from importlib import import_module

    module = import_module(f"attest.cli.{name}")
    parser.description = module.DESCRIPTION
    parser.set_defaults(run=module.run)
    module.add_arguments(parser)


def _refuse(error: Exception, *, as_json: bool) -> int:
    from attest.cli.failure import exit_code, failure_text

    sys.stderr.write(failure_text(error, as_json=as_json) + "\n")
    return exit_code(error)


def _forget_stdout() -> None:
    """The reader of a pipe went away; keep the interpreter from complaining about it at exit."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
