"""``attest policy sign``: an operator's signature on a policy or a reference value, for the service to demand."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from attest.cli.common import print_json, print_text, read_file
from attest.keys.files import replace_file
from attest.keys.statement import POLICY, REFERENCE, Signed, envelope, load_private, signature_beside, unwrap
from attest.keys.statement import sign as sign_bytes
from policy.document import parse_policy
from policy.reference import reference_from_bytes


def sign(args: Namespace) -> int:
    """Add a signature to those there are; a file that does not parse is not signed."""
    kind = REFERENCE if args.reference else POLICY
    signed = _signed_so_far(args.file, kind)
    name = reference_from_bytes(signed.data).name if args.reference else parse_policy(signed.data).name
    key, signature = sign_bytes(load_private(args.key), kind, signed.data)
    others = tuple(entry for entry in signed.signatures if entry[0] != key)
    signed = Signed(signed.data, (*others, (key, signature)))
    target: Path = args.envelope or signature_beside(args.file)
    replace_file(target, envelope(kind, signed, detached=args.envelope is None))
    if args.json:
        keys = [entry[0] for entry in signed.signatures]
        print_json({"schema": "attest.policy.sign/1", "name": name, "keys": keys, "file": str(target)})
    else:
        print_text(f"{name} signed with key {key[:16]} ({len(signed.signatures)} signatures): {target}")
    return 0


def _signed_so_far(file: Path, kind: str) -> Signed:
    beside = signature_beside(file)
    return unwrap(read_file(file, "file"), kind, read_file(beside, "signatures") if beside.exists() else None)
