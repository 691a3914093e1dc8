"""The program ``cvm``. A verb's module is imported when the verb is used: ``cvm ps`` must start like ``ls`` does."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence
    from types import ModuleType

VERBS = {
    "doctor": "can this host run protected VMs? every check, with the fix",
    "image": "build the guest image: kernel, reproducible initrd, manifest",
    "disk": "create an encrypted disk whose key only the service has",
    "plan": "show what would run: decisions, command, launch digest",
    "diff": "what changes between two VM files, and what of it is measured",
    "measure": "compute the launch digest a VM will report",
    "launch": "start a VM and watch it until it has attested and ended",
    "ps": "list VMs and their true state",
    "stop": "stop a VM, or clean up after a dead launcher",
    "pause": "stop a VM's processors, keep its memory",
    "resume": "let a paused VM go on",
    "snapshot": "snapshots of a VM's disks: create, list, delete, revert",
    "throttle": "see and change the limits of a running VM's disks",
    "migrate": "move a running ordinary VM to another host",
    "move": "move a VM to another host, stopped; it attests again there",
    "receive": "wait for a VM that another host moves here",
    "memory": "show or change a running ordinary VM's memory",
    "top": "what every VM uses now, and signs of noisy neighbours",
    "console": "attach to a VM's serial console",
    "exec": "run a command in an attested guest, past the host",
    "logs": "show what a VM wrote to its console",
    "events": "what happened to VMs, as it happens",
    "qmp": "ask a running VM's QEMU; guarded",
    "boot-time": "where the time of a VM's last launch went",
    "ledger": "every launch of a VM, and how it ended",
    "import": "make a VM file from a libvirt domain",
    "schema": "the JSON Schema of a VM file, for editors",
    "idblock": "make and check ID blocks: the chip refuses other images",
    "explain": "say which input makes a reported digest differ",
    "explain-error": "cause and remedy of what QEMU or firmware said",
}

_EXITS = """exit status: 0 done, 1 bug, 2 usage, 3 configuration invalid, 4 host not capable, 5 input malformed,
  6 verification failed, 7 denied by policy, 8 network or storage unavailable, 9 guest or QEMU failed,
  10 not found or wrong state, 130 interrupted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status. Errors of this project become one sentence on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0 if words else 2
    if words[0] == "--version":
        from importlib.metadata import version

        sys.stdout.write(f"cvm {version('cvm')}\n")
        return 0
    verb = words[0]
    if verb not in VERBS:
        sys.stderr.write(f"cvm: unknown verb {verb[:40]!r}{_suggestion(verb)}\n")
        return 2
    leaving = arguments is None
    try:
        try:
            return _run(verb, words[1:])
        except KeyboardInterrupt:  # also one that arrives while another error is being told
            return _interrupted(leaving=leaving)
    except KeyboardInterrupt:  # a second one meanwhile
        return _interrupted(leaving=leaving)


def _interrupted(*, leaving: bool) -> int:
    """The exit status. A second Ctrl-C while the program ends must not make it end by the signal instead."""
    if leaving:
        import signal

        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stderr.write("cvm: interrupted\n")
    return 130


def module_name(verb: str) -> str:
    """The verb's module: ``boot-time`` -> ``launcher.cli.boot_time``; ``import`` is a word of Python."""
    name = verb.replace("-", "_")
    return f"launcher.cli.{name}_" if name == "import" else f"launcher.cli.{name}"


def _run(verb: str, words: list[str]) -> int:
    from policy.errors import CvmError

    args: Namespace | None = None
    try:
        name = module_name(verb)
        __import__(name)  # importlib.import_module costs the import of warnings
        module = sys.modules[name]
        # A verb may read plain options without argparse, which costs a fifth of it.
        quick = getattr(module, "quick", None)
        args = quick(words) if quick is not None else None
        if args is None:
            args = parser_of(verb, module).parse_args(words)
        status = module.run(args)
        sys.stdout.flush()
    except CvmError as exc:
        from launcher.cli.failures import report

        return report(exc, as_json=bool(getattr(args, "json", False)))
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output is gone: nobody is left to be told
        return 0
    except Exception:  # noqa: BLE001  the top level: a bug is reported as one
        from launcher.cli.failures import report_bug

        return report_bug()
    return int(status)


def parser_of(verb: str, module: ModuleType) -> ArgumentParser:
    """The parser of one verb, whose module is imported."""
    from argparse import ArgumentParser, RawDescriptionHelpFormatter

    parser = ArgumentParser(
        prog=f"cvm {verb}",
        description=getattr(module, "DESCRIPTION", VERBS[verb]),
        epilog=getattr(module, "EPILOG", None),
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    return parser


def _help() -> str:
    lines = [f"  {verb:<13} {text}" for verb, text in VERBS.items()]
    return (
        "usage: cvm VERB [OPTIONS]      cvm VERB --help says more\n\n"
        "Launch confidential virtual machines and know what they will measure.\n\n"
        + "\n".join(lines)
        + f"\n\n{_EXITS}\n"
    )


def _suggestion(verb: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(verb, VERBS, n=1)
    return f" (did you mean {close[0]!r}?)" if close else "; cvm --help lists them"


if __name__ == "__main__":
    sys.exit(main())
