"""``cvm idblock``: make, check and name the ID blocks that let the chip itself refuse a wrong image."""

from __future__ import annotations

from base64 import b64encode
from json import dumps
from pathlib import Path

from launcher.cli.measure_options import MeasureUsage, hexadecimal, number, write_out
from launcher.io.hashing import read_file
from ovmf.id_block import IdAuth, IdBlock, sign_id_block, verify_id_block
from ovmf.sev_key import key_digest, private_key_from_pem, public_key_from_pem
from policy.vocab import LaunchDigest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

DESCRIPTION = (
    "An ID block states the launch digest, guest policy, version (SVN) and signer of a VM: the chip refuses to start "
    "anything else, and reports carry the digests of the keys. Private keys are read from files and never shown."
)
_MOST = 1 << 16


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's subcommands."""
    verbs = parser.add_subparsers(dest="action", metavar="create|verify|digest", required=True)
    create = verbs.add_parser("create", help="sign an ID block for a launch digest")
    source = create.add_mutually_exclusive_group(required=True)
    source.add_argument("--digest", metavar="HEX", help="the launch digest, as cvm measure prints it")
    source.add_argument("--reference", metavar="FILE", help='the same, from a file of "cvm measure -o"')
    create.add_argument("--id-key", metavar="PEM", required=True, help="P-384 private key that signs the block")
    create.add_argument("--author-key", metavar="PEM", help="P-384 private key that signs the ID key")
    create.add_argument("--policy", metavar="HEX", type=hexadecimal, default=0x30000, help="guest policy (0x30000)")
    create.add_argument("--svn", metavar="N", type=number, default=0, help="guest security version (0)")
    create.add_argument("--family-id", metavar="HEX", help="16 bytes")
    create.add_argument("--image-id", metavar="HEX", help="16 bytes")
    create.add_argument("--block", metavar="FILE", help="write the 96 bytes there")
    create.add_argument("--auth", metavar="FILE", help="write the 4096 bytes there")
    verify = verbs.add_parser("verify", help="check an ID block as the chip will")
    verify.add_argument("--block", metavar="FILE", required=True, help="96 bytes")
    verify.add_argument("--auth", metavar="FILE", required=True, help="4096 bytes")
    verify.add_argument("--digest", metavar="HEX", help="launch digest it has to state")
    verify.add_argument("--id-key-digest", metavar="HEX", help="digest its ID key has to have")
    verify.add_argument("--author-key-digest", metavar="HEX", help="digest its author key has to have")
    digest = verbs.add_parser("digest", help="the digest of a key, as reports carry it")
    digest.add_argument("key", metavar="PEM", help="P-384 key, public or private")
    for one in (create, verify, digest):
        one.add_argument("--json", action="store_true", help="print JSON (cvm.idblock/1)")


def run(args: Namespace) -> int:
    """Do it; 0. Errors are raised."""
    action = {"create": _create, "verify": _verify, "digest": _digest}[args.action]
    facts = {"schema": "cvm.idblock/1", **action(args)}
    if args.json:
        write_out(dumps(facts, indent=2) + "\n")
        return 0
    del facts["schema"]
    width = max(len(name) for name in facts)
    write_out("".join(f"{name:<{width}}  {text}\n" for name, text in facts.items() if text is not None))
    return 0


def _create(args: Namespace) -> dict[str, Any]:
    block = IdBlock(
        _launch_digest(args),
        _id(args.family_id, "--family-id"),
        _id(args.image_id, "--image-id"),
        args.svn,
        args.policy,
    )
    author = None if args.author_key is None else _private(args.author_key, "author key")
    auth = sign_id_block(block, _private(args.id_key, "ID key"), author)
    raw_block, raw_auth = block.to_bytes(), auth.to_bytes()
    verify_id_block(raw_block, raw_auth, launch_digest=block.launch_digest)  # never hand out what the chip would refuse
    for path, data in ((args.block, raw_block), (args.auth, raw_auth)):
        if path is not None:
            from launcher.cli.reference_file import write_file

            write_file(Path(path), data)
    qemu = f"id-block={b64encode(raw_block).decode()},id-auth={b64encode(raw_auth).decode()}"
    if author is not None:
        qemu += ",author-key-enabled=on"
    return {**_facts(block, auth), "qemu": f"{qemu},policy=0x{block.policy:x}"}


def _verify(args: Namespace) -> dict[str, Any]:
    want = None if args.digest is None else LaunchDigest.from_hex(args.digest)
    raw_block, raw_auth = read_file(args.block, "ID block", _MOST), read_file(args.auth, "ID auth", _MOST)
    block, auth = verify_id_block(raw_block, raw_auth, launch_digest=want)
    facts = _facts(block, auth)
    for name in ("id_key_digest", "author_key_digest"):
        expected = getattr(args, name)
        if expected is not None and expected.lower() != facts[name]:
            from ovmf.errors import IdBlockInvalid

            raise IdBlockInvalid(f"{name.replace('_', ' ')}: got {facts[name] or 'no key'}, want {expected.lower()}")
    return {"outcome": "valid", **facts}


def _digest(args: Namespace) -> dict[str, Any]:
    return {"key_digest": key_digest(public_key_from_pem(read_file(args.key, "key", _MOST), "key")).hex()}


def _facts(block: IdBlock, auth: IdAuth) -> dict[str, Any]:
    author = auth.author_key_digest
    return {
        "launch_digest": block.launch_digest.hex(),
        "policy": f"0x{block.policy:x}",
        "guest_svn": block.guest_svn,
        "family_id": block.family_id.hex(),
        "image_id": block.image_id.hex(),
        "id_key_digest": auth.id_key_digest.hex(),
        "author_key_digest": None if author is None else author.hex(),
    }


def _private(path: str, what: str) -> EllipticCurvePrivateKey:
    return private_key_from_pem(read_file(path, what, _MOST), what)


def _launch_digest(args: Namespace) -> LaunchDigest:
    if args.digest is not None:
        return LaunchDigest.from_hex(args.digest)
    from policy.reference import reference_from_bytes

    return reference_from_bytes(read_file(args.reference, "reference", 1 << 20)).launch_digest


def _id(text: str | None, flag: str) -> bytes:
    try:
        value = bytes.fromhex(text or "00" * 16)
    except ValueError:
        value = b""
    if len(value) != 16:
        raise MeasureUsage(f"{flag}: want 32 hexadecimal digits")
    return value
