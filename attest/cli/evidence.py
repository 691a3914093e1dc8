"""``attest evidence show|replay|verify``. Nothing is sent anywhere except with --online."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

_MAX_JOBS = 256
DESCRIPTION = "Decode evidence, or verify it against AMD's root keys with the certificates and lists at hand."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb and its actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="decode evidence (does not verify it)", allow_abbrev=False)
    show.add_argument("file", type=Path, metavar="FILE")
    show.add_argument("--json", action="store_true", help="machine-readable output")
    _add_replay(
        actions.add_parser("replay", help="event log: registers, events, compared with a quote", allow_abbrev=False)
    )
    _add_verify(
        actions.add_parser(
            "verify", help="verify signature, chain, TCB and binding; --policy appraises", allow_abbrev=False
        )
    )


def _add_replay(replay: argparse.ArgumentParser) -> None:
    replay.add_argument(
        "file", type=Path, metavar="EVENTLOG",
        help="CCEL or TPM event log (binary, or JSON of dstack), or KBS evidence that carries one",
    )  # fmt: skip
    replay.add_argument(
        "--quote", type=Path, metavar="FILE", help="compare with this quote's RTMRs; exit 6 if not equal"
    )
    replay.add_argument(
        "--unlogged", type=int, choices=range(4), action="append", default=[], metavar="N",
        help="RTMR N is extended without a log and may differ; may be repeated",
    )  # fmt: skip
    replay.add_argument(
        "--expected", type=Path, metavar="REF|LOG",
        help="show every difference from a reference value (cvm measure -o) or from another log",
    )  # fmt: skip
    replay.add_argument("--json", action="store_true", help="machine-readable output")


def _add_verify(verify: argparse.ArgumentParser) -> None:
    verify.add_argument(
        "file", type=Path, metavar="FILE|DIR",
        help="SNP report, extended report, KBS evidence, Azure HCL blob, other JSON with one report in it, or any of "
        "these in hexadecimal or base64, recognised by content; of a folder "
        "every file, one line each (with --json one object per line), the exit code being the worst outcome",
    )  # fmt: skip
    verify.add_argument(
        "--collateral", type=Path, action="append", default=[], metavar="DIR",
        help="folder with certificates and CRLs (PEM or DER, any names); may be repeated",
    )  # fmt: skip
    verify.add_argument(
        "--at", type=rfc3339_time, default=None, metavar="RFC3339", help="verify as of then instead of now"
    )
    verify.add_argument(
        "--policy", type=Path, metavar="NAME|FILE", help="appraise with this policy (strict, cloud-aws, … or a file)"
    )
    verify.add_argument(
        "--reference", type=Path, action="append", default=[], metavar="FILE",
        help="reference value (cvm measure -o) the policy may accept; may be repeated",
    )  # fmt: skip
    binding = verify.add_mutually_exclusive_group()
    binding.add_argument("--nonce", type=_nonce, metavar="HEX", help="REPORT_DATA must be this, padded with zeros")
    binding.add_argument("--report-data", type=_report_data, metavar="HEX", help="REPORT_DATA must be these 64 bytes")
    verify.add_argument(
        "--root", type=Path, action="append", default=[], metavar="CERT",
        help="also trust this root (test PKIs); what it vouches for counts as emulated",
    )  # fmt: skip
    verify.add_argument("--require-crl", action="store_true", help="fail unless a current CRL was checked")
    verify.add_argument("--online", action="store_true", help="fetch what is missing from AMD or Intel, into the cache")
    verify.add_argument("--cache", type=Path, metavar="DIR", help="cache folder of --online (default: the user's)")
    verify.add_argument("--kds-url", metavar="URL", help="ask this service instead of AMD's with --online")
    verify.add_argument(
        "--intel-url", action="append", metavar="URL", help="ask this PCCS instead of Intel's with --online; repeatable"
    )
    verify.add_argument("--intel-ca", type=Path, metavar="FILE", help="the authority (PEM) of that PCCS")
    verify.add_argument("--jobs", type=_jobs, default=0, metavar="N", help="workers for a folder (one per processor)")
    verify.add_argument("--json", action="store_true", help="machine-readable output")


def run(args: argparse.Namespace) -> int:
    """Dispatch to the action; returns the exit code."""
    if args.action == "show":
        from attest.cli.evidence_show import show

        return show(args.file, as_json=args.json)
    if args.action == "replay":
        from attest.cli.evidence_replay import replay

        return replay(args)
    today = datetime.now(UTC)
    if args.file.is_dir():
        from attest.cli.evidence_bulk import verify_folder

        return verify_folder(args, args.at or today, today)
    from attest.cli.evidence_verify import verify

    return verify(args, args.at or today, today)


def _jobs(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= value <= _MAX_JOBS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of workers, want 1 to {_MAX_JOBS}")
    return value


def rfc3339_time(text: str) -> datetime:
    """RFC 3339, with a zone."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an RFC 3339 time such as 2026-11-23T00:00:00Z") from None
    if value.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no zone; write 2026-11-23T00:00:00Z or +01:00")
    return value.astimezone(UTC)


def _nonce(text: str) -> bytes:
    value = _hex(text)
    if not 1 <= len(value) <= 64:
        raise argparse.ArgumentTypeError(f"{len(value)} bytes, want 1 to 64")
    return value


def _report_data(text: str) -> bytes:
    value = _hex(text)
    if len(value) != 64:
        raise argparse.ArgumentTypeError(f"{len(value)} bytes, want 64 (128 hexadecimal digits)")
    return value


def _hex(text: str) -> bytes:
    digits = text.removeprefix("0x")
    try:
        if any(character.isspace() for character in digits):
            raise ValueError
        return bytes.fromhex(digits)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not hexadecimal") from None
