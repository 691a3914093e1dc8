"""``attest serve``: run the service in the foreground."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attest.settings import Settings

DESCRIPTION = (
    "Run the attestation service until SIGTERM or Ctrl-C. Puts the policy file in force first, if it has changed. "
    "Prints one line 'ready https://…' on standard error when it answers. At SIGHUP it reads everything again, without "
    "turning anybody away."
)


def add_arguments(parser: ArgumentParser) -> None:
    """The settings file."""
    parser.add_argument("config", type=Path, metavar="FILE", help="settings, as attest init makes them")


def run(args: Namespace) -> int:
    """Serve; 0 after a signal."""
    from attest.cli.common import progress, settings_of
    from attest.web.serve import serve

    settings = settings_of(args)
    _put_in_force(settings)
    return serve(settings, progress, args.config, _put_in_force)


def _put_in_force(settings: Settings) -> None:
    """The policy file, if it has changed."""
    from attest.broker.opening import apply_policy_file, open_database
    from attest.cli.common import by_local_user, progress

    database = open_database(settings)
    document = apply_policy_file(database, settings, by_local_user())
    database.close()
    warning = " — accepts EMULATED hardware, which protects nothing" if document.emulated_allowed else ""
    progress(f"policy {document.name}{warning}")
