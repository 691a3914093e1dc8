"""``attest serve``: run the service in the foreground."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

DESCRIPTION = (
    "Run the attestation service until SIGTERM or Ctrl-C. Puts the policy file in force first, if it has changed. "
    "Prints one line 'ready https://…' on standard error when it answers."
)


def add_arguments(parser: ArgumentParser) -> None:
    """The settings file."""
    parser.add_argument("config", type=Path, metavar="FILE", help="settings, as attest init makes them")


def run(args: Namespace) -> int:
    """Serve; 0 after a signal."""
    from attest.broker.opening import apply_policy_file, open_database
    from attest.cli.common import by_local_user, progress, settings_of
    from attest.web.serve import serve

    settings = settings_of(args)
    by = by_local_user()
    database = open_database(settings)
    document = apply_policy_file(database, settings, by)
    database.close()
    warning = " — accepts EMULATED hardware, which protects nothing" if document.emulated_allowed else ""
    progress(f"policy {document.name}{warning}")
    return serve(settings, progress, args.config)
