"""``attest policy``: check, explain, test and compare policies, sign them, put them in force, look back and replay."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path
from typing import TYPE_CHECKING

from attest.cli.evidence import rfc3339_time

if TYPE_CHECKING:
    Verbs = _SubParsersAction[ArgumentParser]

DESCRIPTION = (
    "Check a policy, say in words what it demands, test it on evidence, compare it with another, sign it, put it in "
    "force, see what was in force when, go back, and see what recorded evidence would get under it."
)
_ACTIONS = {
    "check": ("policy_look", "check"),
    "explain": ("policy_look", "explain"),
    "diff": ("policy_look", "diff"),
    "test": ("policy_cases", "run_cases"),
    "sign": ("policy_sign", "sign"),
    "apply": ("policy_force", "apply"),
    "rollback": ("policy_force", "rollback"),
    "list": ("policy_force", "list_versions"),
    "show": ("policy_force", "show_version"),
    "replay": ("policy_replay", "replay"),
}


def add_arguments(parser: ArgumentParser) -> None:
    """One sub-parser per action."""
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_looking(verbs)
    _add_signing(verbs)
    _add_force(verbs)
    _add_replay(verbs)


def run(args: Namespace) -> int:
    """One of them; a bad policy is exit 3, with every problem."""
    from importlib import import_module

    module, function = _ACTIONS[args.action]
    return int(getattr(import_module(f"attest.cli.{module}"), function)(args))


def _child(verbs: Verbs, name: str, text: str, *, where: bool = False) -> ArgumentParser:
    """``where``: with the options for a database here or a service there."""
    from attest.cli.common import add_json

    child = verbs.add_parser(name, help=text, allow_abbrev=False)
    add_json(child)
    if where:
        from attest.cli.remote import add_where

        add_where(child)
    return child


def _add_looking(verbs: Verbs) -> None:
    from attest.cli.operator import add_operator

    check = _child(verbs, "check", "report every problem of a policy file")
    add_operator(check, required=False, where="ask this service too, https://HOST:PORT, whether it would take it")
    for child in (check, _child(verbs, "explain", "say what a policy accepts and leaves out")):
        child.add_argument("file", metavar="NAME|FILE", help="a shipped policy by name, or a file (TOML)")
    diff = _child(verbs, "diff", "compare two policies rule by rule; exit 7 where they differ", where=True)
    for name in ("old", "new"):
        diff.add_argument(name, metavar="NAME|FILE|vN", help="shipped, a file, or version N of this service (v3)")
    test = _child(verbs, "test", "judge evidence files, compare with what you expect; exit 6 if one differs")
    test.add_argument("file", metavar="NAME|FILE", help="the policy")
    test.add_argument("cases", type=Path, nargs="+", metavar="CASES", help="cvm.policy-test files (TOML)")


def _add_signing(verbs: Verbs) -> None:
    sign = _child(verbs, "sign", "sign a policy or reference-value file, into FILE.sig")
    sign.add_argument("file", type=Path, metavar="FILE", help="the file")
    sign.add_argument("--key", type=Path, required=True, metavar="PEM", help="private key, Ed25519 or P-384, mode 0600")
    sign.add_argument("--reference", action="store_true", help="FILE is a reference value (cvm.reference/1)")
    sign.add_argument("--envelope", type=Path, metavar="OUT", help="write one file that holds FILE and its signatures")


def _add_force(verbs: Verbs) -> None:
    apply = _child(verbs, "apply", "put a policy in force; guests attest again", where=True)
    apply.add_argument("file", metavar="NAME|FILE", help="a shipped policy by name, a file, or an envelope of one")
    rollback = _child(verbs, "rollback", "put an earlier version in force again", where=True)
    rollback.add_argument("version", type=_version, metavar="vN", help="the version (attest policy list)")
    _child(verbs, "list", "every version: when, by whom, signed by whom", where=True)
    show = _child(verbs, "show", "the text of a version", where=True)
    show.add_argument("version", type=_version, nargs="?", metavar="vN", help="default: the one in force")


def _add_replay(verbs: Verbs) -> None:
    replay = _child(verbs, "replay", "what recorded evidence would have got under a policy", where=True)
    replay.add_argument("file", metavar="NAME|FILE|vN", help="the policy")
    replay.add_argument("--since", type=rfc3339_time, metavar="RFC3339", help="from then on (default: 30 days ago)")
    replay.add_argument("--until", type=rfc3339_time, metavar="RFC3339", help="before then (default: now)")
    replay.add_argument(
        "--present-references", action="store_true", help="by the reference values of now, not those of each decision"
    )


def _version(text: str) -> int:
    from argparse import ArgumentTypeError

    digits = text.removeprefix("v")
    if not (digits.isascii() and digits.isdigit() and 0 < len(digits) < 10):
        raise ArgumentTypeError(f"{text!r} is no version such as v3")
    return int(digits)
