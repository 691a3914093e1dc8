"""``attest policy apply|rollback|list|show``: the policy in force and those before it.

The file of the settings and the database change together: signatures first, then the file, then the database. Whatever
moment the machine stops at, the next start finds a policy whose signatures fit, the old one or the new one.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from attest.broker.opening import open_database, signers_of
from attest.broker.policies import apply_policy, version, version_json, versions
from attest.cli.common import by_local_user, print_json, print_table, print_text, settings_of
from attest.cli.policy_file import EMULATED, signed_policy
from attest.cli.policy_there import put_there, roll_back_there, version_there, versions_there
from attest.keys.files import replace_file
from attest.keys.statement import POLICY, Signed, envelope, signature_beside
from attest.settings import Settings
from attest.store.engine import Database
from policy.document import PolicyDocument, parse_policy


def apply(args: Namespace) -> int:
    """Put a file's policy in force."""
    if args.service is not None:
        return _said(args, "apply", put_there(args, signed_policy(args.file)))
    settings = settings_of(args)
    document = _force(open_database(settings), settings, signed_policy(args.file))
    return _said(args, "apply", {"name": document.name, "emulated": document.emulated_allowed})


def rollback(args: Namespace) -> int:
    """Put an earlier version in force: a new version of the same bytes and signatures."""
    if args.service is not None:
        found = {**roll_back_there(args, args.version), "version": args.version}
        return _said(args, "rollback", found, f" of version v{args.version}")
    settings = settings_of(args)
    database = open_database(settings)
    with database.read() as tx:
        entry, signed = version(tx, args.version)
    document = _force(database, settings, signed, rollback_to=entry.number)
    found = {"name": document.name, "version": entry.number, "emulated": document.emulated_allowed}
    return _said(args, "rollback", found, f" of version v{entry.number}")


def _said(args: Namespace, verb: str, found: Mapping[str, Any], which: str = "") -> int:
    if args.json:
        print_json({"schema": f"attest.policy.{verb}/1", **found})
    else:
        again = " again" if which else ""
        print_text(f"policy {found['name']}{which} is in force{again}" + EMULATED * found["emulated"])
    return 0


def list_versions(args: Namespace) -> int:
    """Every version, oldest first."""
    found = _versions(args) if args.service is None else versions_there(args)
    if args.json:
        print_json({"schema": "attest.policy.list/1", "versions": found})
        return 0
    rows = [("VERSION", "NAME", "SINCE", "BY", "SIGNED BY", "RECORD", "SHA-256")]
    for entry in found:
        back = entry["rollback_to"]
        name = entry["name"] if back is None else f"{entry['name']} (back to v{back})"
        signers = ", ".join(key[:16] for key in entry["signed_by"]) or "-"
        number = f"v{entry['version']}{' *' if entry['in_force'] else ''}"
        rows.append((number, name, entry["since"], entry["by"], signers, str(entry["record"]), entry["sha256"][:16]))
    print_table(rows)
    print_text("* is in force")
    return 0


def _versions(args: Namespace) -> list[dict[str, Any]]:
    with open_database(settings_of(args)).read() as tx:
        return [version_json(entry) for entry in versions(tx)]


def show_version(args: Namespace) -> int:
    """The text of a version, as it was applied."""
    found = _version(args) if args.service is None else version_there(args, args.version)
    if args.json:
        print_json({"schema": "attest.policy.show/1", **found})
    else:
        sys.stdout.write(found["text"])
    return 0


def _version(args: Namespace) -> Mapping[str, Any]:
    with open_database(settings_of(args)).read() as tx:
        entry, signed = version(tx, args.version)
    return {**version_json(entry), "text": signed.data.decode("utf-8")}


def _force(database: Database, settings: Settings, signed: Signed, *, rollback_to: int | None = None) -> PolicyDocument:
    signers = signers_of(settings)
    signers.check(signed, POLICY, f"policy {parse_policy(signed.data).name}")  # before anything is written
    file = settings.policy.file
    beside = signature_beside(file)
    if signed.signatures:
        replace_file(beside, envelope(POLICY, signed, detached=True))
    else:
        beside.unlink(missing_ok=True)
    replace_file(file, signed.data)
    return apply_policy(database, signed, by_local_user(), signers, rollback_to=rollback_to)
