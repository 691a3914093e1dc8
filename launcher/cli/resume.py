"""``cvm resume``."""

from __future__ import annotations

from argparse import Namespace

from launcher.cli.pause import add_arguments, run_with

DESCRIPTION = """Let a paused VM go on."""
EPILOG = """example: cvm resume web-1
exit status: 0 done, 10 no such VM, not up, not paused, or QEMU refused"""

__all__ = ["DESCRIPTION", "EPILOG", "add_arguments", "run"]


def run(args: Namespace) -> int:
    """Resume; 0."""
    return run_with(args, on=False)
