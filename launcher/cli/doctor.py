"""``cvm doctor``: what can this host run, and what fixes the rest?"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from launcher.service.diagnosis import Diagnosis, diagnose

DESCRIPTION = "Check every requirement of this host. Needs no privilege, changes nothing."
EPILOG = """example: cvm doctor --json
exit status: 0 every platform this release launches can run (with --platform: that one), 4 something is missing"""
_MARK = {"ok": "ok     ", "warn": "warning", "missing": "MISSING", "skip": "skipped"}
PLATFORMS = ("sev-snp", "tdx", "emulated-snp", "emulated-tdx", "none")


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("--platform", choices=PLATFORMS, help="only this platform decides the exit status")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.doctor/1)")


def run(args: Namespace) -> int:
    """Report; 0 or 4."""
    diagnosis = diagnose(PLATFORMS)
    sys.stdout.write(_json(diagnosis) if args.json else _text(diagnosis))
    wanted = (args.platform,) if args.platform else PLATFORMS
    return 0 if all(diagnosis.can[platform] for platform in wanted) else 4


def _json(diagnosis: Diagnosis) -> str:
    document = {
        "schema": "cvm.doctor/1",
        "platforms": diagnosis.can,
        "findings": [item._asdict() for item in diagnosis.findings],
    }
    return json.dumps(document, indent=2) + "\n"


def _text(diagnosis: Diagnosis) -> str:
    width = max(len(item.id) for item in diagnosis.findings)
    lines = []
    for item in diagnosis.findings:
        lines.append(f"{_MARK[item.state]}  {item.id:<{width}}  {item.seen}")
        if item.state != "ok":
            lines.append(f"{'':{width + 11}}{item.why}")
            if item.fix:
                lines.append(f"{'':{width + 11}}fix: {item.fix}")
    lines.append("")
    lines += [
        f"{platform:<13} {'can run here' if yes else 'cannot run here'}" for platform, yes in diagnosis.can.items()
    ]
    return "\n".join(lines) + "\n"
