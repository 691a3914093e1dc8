"""``attest whoami``: what a service takes you for."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

DESCRIPTION = (
    "Ask a running service what your certificate or token makes of you: operator or auditor, by which name records "
    "and approvals call you, and what the roles in its settings let you do beside reading."
)


def add_arguments(parser: ArgumentParser) -> None:
    """Who asks."""
    from attest.cli.common import add_json
    from attest.cli.operator import add_operator

    add_operator(parser)
    add_json(parser)


def run(args: Namespace) -> int:
    """Ask and print; 0."""
    from attest.cli.common import print_json, print_table
    from attest.cli.operator import ask_json

    found = ask_json(args, "GET", "/cvm/v0/whoami", {})
    if args.json:
        print_json(found)
        return 0
    rows = [("kind", found["kind"]), ("name", found["name"])]
    for duty in found["duties"]:
        rows.append((f"role {duty['role']}" if duty["role"] else "may", ", ".join(duty["may"])))
        rows += [(f"  {key}", ", ".join(duty[key])) for key in ("resources", "vms") if key in duty]
    print_table(rows)
    return 0
