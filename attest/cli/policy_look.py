"""``attest policy check|explain|diff``: nothing is changed, nothing but files and the history is read."""

from __future__ import annotations

import re
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from attest.cli.common import print_json, print_table, print_text
from attest.cli.policy_file import emulated_words, policy_bytes
from attest.cli.policy_words import policy_rules, policy_warnings
from policy.document import PolicyDocument, parse_policy

if TYPE_CHECKING:
    from attest.cli.policy_words import Rule

SAME, DIFFERENT = 0, 7
_VERSION = re.compile(r"v([1-9][0-9]{0,8})")


def check(args: Namespace) -> int:
    """Every problem, or none; a service that is asked says too whether it would take it."""
    document = parse_policy(policy_bytes(args.file))
    found: dict[str, Any] = {"name": document.name, "emulated": document.emulated_allowed}
    if args.service is not None:
        from attest.cli.policy_there import would_take

        found |= would_take(args)
    if args.json:
        print_json({"schema": "attest.policy.check/1", **found})
        return 0
    print_text(f"policy {document.name}: no problems" + emulated_words(document))
    print_text(*(f"think about {text}" for text in policy_warnings(document)))
    if args.service is not None:
        signed = ", ".join(key[:16] for key in found["signed_by"]) or "no key that counts there"
        print_text(f"the service would take it, signed by {signed}" + (", and has it in force" * found["in_force"]))
    return 0


def explain(args: Namespace) -> int:
    """Rule by rule."""
    document = parse_policy(policy_bytes(args.file))
    rules, warnings = policy_rules(document), policy_warnings(document)
    if args.json:
        rows = [{"key": key, "rule": rule, "compared": compared} for key, rule, compared in rules]
        print_json(
            {"schema": "attest.policy.explain/1", "name": document.name, "rules": rows, "warnings": list(warnings)}
        )
        return 0
    print_text(f"policy {document.name}: {document.description}" + emulated_words(document))
    print_table([(" " if compared else "-", key, rule) for key, rule, compared in rules])
    print_text("lines with - are not compared, by decision of the policy")
    print_text(*(f"think about {text}" for text in warnings))
    return 0


def diff(args: Namespace) -> int:
    """Rule by rule, in the order of the new one; 7 where they differ."""
    old, new = (policy_named(args, name) for name in (args.old, args.new))
    rows = differences(policy_rules(old), policy_rules(new))
    if args.json:
        print_json(
            {
                "schema": "attest.policy.diff/1",
                "old": old.name,
                "new": new.name,
                "differences": [{"key": key, "old": before, "new": after} for key, before, after in rows],
            }
        )
    elif rows:
        for key, before, after in rows:
            print_text(key, *_sides(before, after))
    else:
        print_text(f"policies {old.name} and {new.name} demand the same")
    return DIFFERENT if rows else SAME


def differences(old: tuple[Rule, ...], new: tuple[Rule, ...]) -> list[tuple[str, str | None, str | None]]:
    """(Key, old words, new words) of rules that differ; ``None`` where a policy has no such rule."""
    before, after = ({key: _said(rule, compared) for key, rule, compared in rules} for rules in (old, new))
    keys = dict.fromkeys((*after, *before))
    return [(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]


def policy_named(args: Namespace, name: str) -> PolicyDocument:
    """A shipped policy, a file, or version N of the service (``vN``). Raises NotFound, PolicyUnreadable."""
    return parse_policy(policy_text(args, name))


def policy_text(args: Namespace, name: str) -> bytes:
    """Its bytes."""
    match = _VERSION.fullmatch(name)
    if match is None:
        return policy_bytes(name)
    if args.service is not None:
        from attest.cli.policy_there import version_there

        return str(version_there(args, int(match[1]))["text"]).encode()
    from attest.broker.opening import open_database
    from attest.broker.policies import version
    from attest.cli.common import settings_of

    with open_database(settings_of(args)).read() as tx:
        return version(tx, int(match[1]))[1].data


def _said(rule: str, compared: bool) -> str:
    return rule if compared else f"{rule} (not compared)"


def _sides(before: str | None, after: str | None) -> list[str]:
    return [f"  {sign} {text}" for sign, text in (("-", before), ("+", after)) if text is not None]
