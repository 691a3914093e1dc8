"""``attest dashboard``: the auditors' pages as a program of their own."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, Namespace
from pathlib import Path

DESCRIPTION = (
    "Serve the auditors' pages ([dashboard] in the settings) until SIGTERM or Ctrl-C. Reads the database, can change "
    "and release nothing: of the settings' files it opens only those of its own listener, so it may run as a user who "
    "can read no key. `attest serve` starts it by itself where [dashboard] is set."
)


def add_arguments(parser: ArgumentParser) -> None:
    """The settings file; sockets are for ``attest serve``."""
    parser.add_argument("config", type=Path, metavar="FILE", help="settings, as attest init makes them")
    parser.add_argument("--listen-fd", type=int, help=SUPPRESS)
    parser.add_argument("--ready-fd", type=int, help=SUPPRESS)


def run(args: Namespace) -> int:
    """Serve; 0 after a signal."""
    import socket

    from attest.cli.common import progress
    from attest.settings import load_dashboard
    from attest.web.bind import bind
    from attest.web.dashboard.serve import serve_dashboard, tell

    role = load_dashboard(args.config)
    if args.listen_fd is not None:
        serve_dashboard(role, socket.socket(fileno=args.listen_fd), tell(args.ready_fd))
        return 0
    bound = bind(role.own.listen, "http" if role.own.plain else "https")
    serve_dashboard(role, bound.socket, lambda: progress(f"dashboard {bound.url}"))
    return 0
