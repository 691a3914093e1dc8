"""``attest policy``: check, explain and apply an appraisal policy."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

DESCRIPTION = "Check a policy file, say in words what it demands, or put it in force in a service."


def add_arguments(parser: ArgumentParser) -> None:
    """``check``, ``explain``, ``apply``."""
    from attest.cli.common import add_config, add_json

    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = verbs.add_parser("check", help="report every problem of a policy file", allow_abbrev=False)
    explain = verbs.add_parser("explain", help="say what a policy accepts and leaves out", allow_abbrev=False)
    apply = verbs.add_parser("apply", help="put a policy in force; guests attest again", allow_abbrev=False)
    for child in (check, explain, apply):
        child.add_argument("file", metavar="NAME|FILE", help="a shipped policy by name, or a file (TOML)")
        add_json(child)
    add_config(apply)


def run(args: Namespace) -> int:
    """One of the three; 0. A bad policy is exit 3, with every problem."""
    return {"check": _check, "explain": _explain, "apply": _apply}[args.action](args)


def _check(args: Namespace) -> int:
    from attest.cli.common import print_json, print_text
    from attest.cli.policy_file import policy_bytes
    from attest.cli.policy_words import policy_warnings
    from policy.document import parse_policy

    document = parse_policy(policy_bytes(args.file))
    if args.json:
        print_json({"schema": "attest.policy.check/1", "name": document.name, "emulated": document.emulated_allowed})
    else:
        print_text(f"policy {document.name}: no problems" + _emulated(document.emulated_allowed))
        print_text(*(f"think about {text}" for text in policy_warnings(document)))
    return 0


def _explain(args: Namespace) -> int:
    from attest.cli.common import print_json, print_table, print_text
    from attest.cli.policy_file import policy_bytes
    from attest.cli.policy_words import policy_rules, policy_warnings
    from policy.document import parse_policy

    document = parse_policy(policy_bytes(args.file))
    rules, warnings = policy_rules(document), policy_warnings(document)
    if args.json:
        rows = [{"key": key, "rule": rule, "compared": compared} for key, rule, compared in rules]
        print_json(
            {"schema": "attest.policy.explain/1", "name": document.name, "rules": rows, "warnings": list(warnings)}
        )
        return 0
    print_text(f"policy {document.name}: {document.description}" + _emulated(document.emulated_allowed))
    print_table([(" " if compared else "-", key, rule) for key, rule, compared in rules])
    print_text("lines with - are not compared, by decision of the policy")
    print_text(*(f"think about {text}" for text in warnings))
    return 0


def _apply(args: Namespace) -> int:
    from attest.broker.opening import open_database
    from attest.broker.operations import apply_policy
    from attest.cli.common import by_local_user, print_json, print_text, settings_of
    from attest.cli.policy_file import raw_policy
    from attest.keys.files import replace_file
    from policy.document import parse_policy

    settings = settings_of(args)
    data = raw_policy(args.file)
    parse_policy(data)
    database = open_database(settings)
    # The file first: a service that starts in between reads the same policy.
    replace_file(settings.policy_file, data)
    document = apply_policy(database, data, by_local_user())
    if args.json:
        print_json({"schema": "attest.policy.apply/1", "name": document.name, "emulated": document.emulated_allowed})
    else:
        print_text(f"policy {document.name} is in force" + _emulated(document.emulated_allowed))
    return 0


def _emulated(allowed: bool) -> str:
    return " — accepts EMULATED hardware, which protects nothing" if allowed else ""
