"""``attest policy apply|rollback|list|show``: the policy in force and those before it.

The file of the settings and the database change together: signatures first, then the file, then the database. Whatever
moment the machine stops at, the next start finds a policy whose signatures fit, the old one or the new one.
"""

from __future__ import annotations

import sys
from argparse import Namespace

from attest.audit.canonical import rfc3339
from attest.broker.opening import open_database, signers_of
from attest.broker.policies import Version, apply_policy, version, versions
from attest.cli.common import by_local_user, print_json, print_table, print_text, settings_of
from attest.cli.policy_file import emulated_words, signed_policy
from attest.keys.files import replace_file
from attest.keys.statement import POLICY, Signed, envelope, signature_beside
from attest.settings import Settings
from attest.store.engine import Database
from attest.store.errors import NotFound
from policy.document import PolicyDocument, parse_policy


def apply(args: Namespace) -> int:
    """Put a file's policy in force."""
    settings = settings_of(args)
    signed = signed_policy(args.file)
    document = _force(open_database(settings), settings, signed)
    if args.json:
        print_json({"schema": "attest.policy.apply/1", "name": document.name, "emulated": document.emulated_allowed})
    else:
        print_text(f"policy {document.name} is in force" + emulated_words(document))
    return 0


def rollback(args: Namespace) -> int:
    """Put an earlier version in force: a new version of the same bytes and signatures."""
    settings = settings_of(args)
    database = open_database(settings)
    with database.read() as tx:
        entry, signed = version(tx, args.version)
    document = _force(database, settings, signed, rollback_to=entry.number)
    if args.json:
        print_json({"schema": "attest.policy.rollback/1", "name": document.name, "version": entry.number})
    else:
        print_text(f"policy {document.name} of version v{entry.number} is in force again" + emulated_words(document))
    return 0


def list_versions(args: Namespace) -> int:
    """Every version, oldest first."""
    with open_database(settings_of(args)).read() as tx:
        found = versions(tx)
    if args.json:
        print_json({"schema": "attest.policy.list/1", "versions": [version_json(entry) for entry in found]})
        return 0
    rows = [("VERSION", "NAME", "SINCE", "BY", "SIGNED BY", "RECORD", "SHA-256")]
    for entry in found:
        name = entry.name if entry.rollback_to is None else f"{entry.name} (back to v{entry.rollback_to})"
        signers = ", ".join(key[:16] for key in entry.signed_by) or "-"
        number = f"v{entry.number}{' *' if entry.active else ''}"
        rows.append(
            (number, name, rfc3339(entry.time), entry.actor, signers, str(entry.record), entry.sha256.hex()[:16])
        )
    print_table(rows)
    print_text("* is in force")
    return 0


def show_version(args: Namespace) -> int:
    """The text of a version, as it was applied."""
    with open_database(settings_of(args)).read() as tx:
        found = versions(tx)
        if args.version is None and not found:
            raise NotFound("policy: none was ever in force", hint="attest policy apply FILE")
        entry, signed = version(tx, args.version or len(found))
    text = signed.data.decode("utf-8")
    if args.json:
        print_json({"schema": "attest.policy.show/1", **version_json(entry), "text": text})
    else:
        sys.stdout.write(text)
    return 0


def version_json(entry: Version) -> dict[str, object]:
    """A version as JSON values."""
    return {
        "version": entry.number,
        "name": entry.name,
        "since": rfc3339(entry.time),
        "by": entry.actor,
        "signed_by": list(entry.signed_by),
        "rollback_to": entry.rollback_to,
        "record": entry.record,
        "sha256": entry.sha256.hex(),
        "in_force": entry.active,
    }


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
