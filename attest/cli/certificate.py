"""``attest certificate``: client certificates of operators and auditors, and the list of those that count no more."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from attest.keys.authority import Credential

DESCRIPTION = (
    "Issue client certificates of an authority that `attest init` made, or take them back: `revoke` writes the list "
    "that operator_crl and auditor_crl in attest.toml name. Works where the authority's key is, which need not be the "
    "service's machine."
)


def add_arguments(parser: ArgumentParser) -> None:
    """``issue``, ``revoke``."""
    from attest.cli.common import add_json

    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    issue = verbs.add_parser("issue", help="make a certificate and its key", allow_abbrev=False)
    issue.add_argument("name", metavar="NAME", help="the common name: what records and approvals call its holder")
    issue.add_argument("-o", "--output", required=True, metavar="PREFIX", help="writes PREFIX.pem and PREFIX.key")
    revoke = verbs.add_parser("revoke", help="add certificates to the list, or renew it", allow_abbrev=False)
    revoke.add_argument("certificates", nargs="*", type=Path, metavar="CERT", help="none: the list as it is, anew")
    revoke.add_argument("--list", type=Path, required=True, metavar="FILE", help="the list; what is in it stays in it")
    revoke.add_argument("--days", type=int, default=30, metavar="N", help="how long it counts (30)")
    for child in (issue, revoke):
        child.add_argument("--authority", type=Path, required=True, metavar="FILE", help="operator-ca.pem")
        child.add_argument("--authority-key", type=Path, required=True, metavar="FILE", help="operator-ca.key")
        add_json(child)


def run(args: Namespace) -> int:
    """One of the two; 0."""
    from datetime import UTC, datetime

    from attest.cli.common import print_json, print_text
    from attest.keys.authority import load_authority

    authority, now = load_authority(args.authority, args.authority_key), datetime.now(UTC)
    if args.action == "issue":
        found, lines = _issue(args, authority, now)
    else:
        found, lines = _revoke(args, authority, now)
    if args.json:
        print_json({"schema": f"attest.certificate.{args.action}/1", **found})
    else:
        print_text(*lines)
    return 0


def _issue(args: Namespace, authority: Credential, now: datetime) -> tuple[dict[str, object], list[str]]:
    from attest.keys.authority import issue_operator
    from attest.keys.files import write_new, write_private
    from policy.errors import ConfigInvalid

    if not (0 < len(args.name) <= 64 and args.name.isprintable()):  # RFC 5280, ub-common-name
        raise ConfigInvalid("NAME", ("want 1 to 64 printable characters",))
    made = issue_operator(authority, args.name, now)
    certificate, key = Path(f"{args.output}.pem"), Path(f"{args.output}.key")
    write_private(key, made.key_pem())
    write_new(certificate, made.certificate_pem())
    return {"name": args.name, "certificate": str(certificate), "key": str(key)}, [f"{certificate}", f"{key}"]


def _revoke(args: Namespace, authority: Credential, now: datetime) -> tuple[dict[str, object], list[str]]:
    from datetime import timedelta

    from attest.keys.authority import issue_crl
    from attest.keys.client_crl import ClientAuthority, client_crls_of
    from attest.keys.files import replace_file
    from policy.errors import ConfigInvalid

    if not 1 <= args.days <= 366:
        raise ConfigInvalid("--days", (f"got {args.days}, want 1..366",))
    revoked: dict[int, datetime] = {}
    if args.list.exists():
        own = ClientAuthority(args.authority, args.list)
        revoked |= {serial: since for crl in client_crls_of(own) for serial, since in crl.revoked.items()}
    for path in args.certificates:
        revoked.setdefault(_serial(path, authority), now)
    replace_file(args.list, issue_crl(authority, revoked, now, timedelta(days=args.days)))
    ends = f"{now + timedelta(days=args.days):%Y-%m-%d}"
    told = f"{args.list}: {len(revoked)} taken back, counts until {ends}; put it on every replica, then kill -HUP"
    return {"list": str(args.list), "revoked": len(revoked), "ends": ends}, [told]


def _serial(path: Path, authority: Credential) -> int:
    """Of a certificate this authority issued."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    from attest.cli.common import read_file
    from policy.errors import ConfigInvalid

    try:
        found = x509.load_pem_x509_certificate(read_file(path, "certificate"))
        found.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature) as exc:
        raise ConfigInvalid(str(path), (f"not a certificate of this authority: {exc}".removesuffix(": "),)) from None
    return found.serial_number
