"""``cvm disk``: encrypted disks whose keys only the service keeps."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

DESCRIPTION = "Make encrypted disks. The key goes to the service over TLS and nowhere else."


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's own verbs."""
    verbs = parser.add_subparsers(dest="disk_verb", metavar="VERB", required=True)
    create = verbs.add_parser("create", help="a LUKS2 disk with an ext4 file system")
    create.add_argument("image", metavar="IMG", help="file to make; an existing one is never overwritten")
    create.add_argument("--size", metavar="SIZE", required=True, help="of the whole image, such as 20GiB")
    create.add_argument("--resource", metavar="PATH", required=True, help="the key's name: repository/type/tag")
    create.add_argument("--service", metavar="URL", required=True, help="the service's operator listener, https://…")
    create.add_argument("--ca", metavar="PEM", required=True, help="CA certificate of the service")
    create.add_argument("--operator-cert", metavar="PEM", required=True, help="your operator certificate")
    create.add_argument("--operator-key", metavar="PEM", required=True, help="its private key")
    create.add_argument("--content", metavar="DIR", help="folder whose files the disk is to hold")
    create.add_argument("--json", action="store_true", help="print JSON (cvm.disk/1)")


def run(args: Namespace) -> int:
    """Make the disk; 0. Errors are raised."""
    import sys
    from pathlib import Path

    from launcher.cli.progress import show
    from launcher.config.sizes import parse_size, show_size
    from launcher.disks import DiskOrder, create_disk
    from launcher.io.key_service import KeyService, ServiceAccess
    from policy.errors import CvmError
    from policy.vocab import ResourcePath

    size = parse_size(args.size)
    if size is None:
        raise CvmError(f"--size {args.size[:40]!r}: want a whole number with KiB, MiB, GiB or TiB", code="usage")
    access = ServiceAccess(args.service, Path(args.ca), Path(args.operator_cert), Path(args.operator_key))
    resource = ResourcePath.parse(args.resource)
    order = DiskOrder(Path(args.image), size, resource, Path(args.content) if args.content else None)
    header = create_disk(order, KeyService(access), show)
    if args.json:
        from json import dumps

        document = {"schema": "cvm.disk/1", "path": args.image, "size": size, "resource": resource, "header": header}
        sys.stdout.write(dumps(document, indent=1) + "\n")
    else:
        sys.stdout.write(f"{args.image}: {show_size(size)} LUKS2, ext4 inside; key {resource} kept by {args.service}\n")
        sys.stdout.write(f"header {header}\n")
    return 0
