"""``attest collateral fetch|status|bundle|import``: what evidence is verified with, before a guest needs it."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

DESCRIPTION = (
    "Fetch AMD's certificates, Intel's TCB infos and QE identities, and the revocation lists of both into a cache, "
    "list what is there and what expires when, and carry it to machines without a network. Everything is verified "
    "before it is kept."
)
PRODUCTS = ("Milan", "Genoa", "Turin")


def add_arguments(parser: ArgumentParser) -> None:
    """The four actions."""
    from attest.cli.operator import add_operator

    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    fetch = actions.add_parser(
        "fetch", help="fetch what evidence needs, or a chip, a product, a platform", allow_abbrev=False
    )
    fetch.add_argument("report", nargs="?", type=Path, metavar="EVIDENCE", help="report or quote of a guest there")
    fetch.add_argument("--product", choices=PRODUCTS, help="Bergamo and Siena are Genoa")
    fetch.add_argument("--chip", type=_hex, metavar="HEX", help="chip id: 64 bytes, on Turin 8")
    fetch.add_argument(
        "--tcb", metavar="TCB", help="REPORTED_TCB: 16 hex digits, or 10.0.24.84 (bl.tee.snp.ucode; Turin fmc first)"
    )
    fetch.add_argument("--fmspc", type=_hex, metavar="HEX", help="Intel platform: 6 bytes (attest evidence show)")
    fetch.add_argument("--ca", choices=("platform", "processor"), default=None, help="who issued its PCK certificate")
    fetch.add_argument("--tee", choices=("tdx", "sgx"), default=None, help="whose levels (tdx)")
    fetch.add_argument("--update", metavar="CHANNEL", help="standard, early, or an evaluation data number")
    fetch.add_argument("--refresh", action="store_true", help="ask again for what is cached")
    fetch.add_argument("--wait", type=_seconds, default=120.0, metavar="SECONDS", help="at most this long (120)")
    fetch.add_argument("--kds-url", metavar="URL", help="another service than AMD's; answers are verified all the same")
    fetch.add_argument(
        "--intel-url", action="append", metavar="URL", help="a PCCS, or another service than Intel's; may be repeated"
    )
    fetch.add_argument("--intel-ca", type=Path, metavar="FILE", help="the authority (PEM) of that service")
    status = actions.add_parser("status", help="what is cached, and what expires when", allow_abbrev=False)
    bundle = actions.add_parser("bundle", help="write the cache into one file", allow_abbrev=False)
    bundle.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the file to write")
    load = actions.add_parser(
        "import",
        help="verify a bundle, a report's VCEK, or Intel's collateral, and store what is newer",
        allow_abbrev=False,
    )
    load.add_argument("file", type=Path, metavar="FILE", help="bundle, extended report, certificates")
    for child in (fetch, status, load):
        add_operator(child, required=False, where="the cache of this service, https://HOST:PORT", ca="--service-ca")
    for child in (fetch, status, bundle, load):
        where = child.add_mutually_exclusive_group()
        where.add_argument("--cache", type=Path, metavar="DIR", help="cache folder (the settings', else the user's)")
        where.add_argument("--config", type=Path, metavar="FILE", help="settings that name cache and service")
        child.add_argument(
            "--root", type=Path, action="append", default=[], metavar="CERT", help="also trust this root (test PKIs)"
        )
        child.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: Namespace) -> int:
    """Dispatch to the action; returns the exit code."""
    from attest.cli.collateral_actions import bundle, fetch, load, status

    return {"fetch": fetch, "status": status, "bundle": bundle, "import": load}[args.action](args)


def _hex(text: str) -> bytes:
    try:
        if any(character.isspace() for character in text):
            raise ValueError
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise ArgumentTypeError(f"{text[:40]!r} is not hexadecimal") from None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 3600:
        raise ArgumentTypeError(f"{text[:40]!r}: want seconds, more than 0 and at most 3600")
    return value
