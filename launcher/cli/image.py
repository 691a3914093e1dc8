"""``cvm image``: build the guest image, and get what this machine needs to start one."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from launcher.provision import ImageOrder

DESCRIPTION = (
    """Build the guest image: a kernel, a reproducible initrd with the attestation agent, root file systems."""
)


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's own verbs."""
    verbs = parser.add_subparsers(dest="image_verb", metavar="VERB", required=True)
    build = verbs.add_parser("build", help="kernel, initrd and manifest.json from Debian's packages")
    build.add_argument("--out", metavar="DIR", required=True, help="folder for the image; made or replaced as a whole")
    build.add_argument("--refresh", action="store_true", help="ask the mirror now, not once a day")
    root = verbs.add_parser("root", help="a read-only root file system whose every byte follows from its root hash")
    root.add_argument("image", metavar="IMG", help="file to make; an existing one is never overwritten")
    root.add_argument(
        "--content", metavar="PATH", required=True, help="folder (all files become root's) or tar archive"
    )
    disk = verbs.add_parser("uki", help="a disk that boots what a VM file boots directly, as a unified kernel image")
    disk.add_argument("image", metavar="IMG", help="disk to make; an existing file is never overwritten")
    disk.add_argument("vm", metavar="VM.toml", help="file with [boot] kernel and initrd")
    show = verbs.add_parser("show", help="what an image is made of; compares its files with the manifest")
    show.add_argument("dir", metavar="DIR")
    toolchain = verbs.add_parser("toolchain", help="find QEMU and firmware, or fetch them into the cache")
    toolchain.add_argument("--storage", action="store_true", help="with RBD, iSCSI, NFS and QEMU's disk tools (14 MB)")
    prepare = verbs.add_parser("prepare", help="toolchain and an image in the cache, if they are not there yet")
    for verb in (build, root, disk, prepare):
        verb.add_argument("--suite", metavar="NAME", default="trixie", help="Debian release (default: trixie)")
        verb.add_argument(
            "--mirror", metavar="URL", help="Debian mirror or snapshot (default: the one of this machine's apt)"
        )
        verb.add_argument(
            "--security-mirror", metavar="URL", help="mirror of the security updates; 'none' for no updates"
        )
        verb.add_argument(
            "--allow-expired", action="store_true", help="accept a package index past its Valid-Until date"
        )
    for verb in (build, root, disk, show, toolchain, prepare):
        verb.add_argument("--json", action="store_true", help="print JSON")


def run(args: Namespace) -> int:
    """Do it; 0. Errors are raised."""
    verbs = {"build": _build, "root": _root, "uki": _uki, "show": _show, "toolchain": _toolchain, "prepare": _prepare}
    return verbs[args.image_verb](args)


def _build(args: Namespace) -> int:
    from pathlib import Path

    from launcher.cli import progress
    from launcher.provision import ensure_image

    manifest = ensure_image(Path(args.out), _order(args, refresh=args.refresh), progress.show)
    _print(manifest, args.json, lambda: _summary(Path(args.out), manifest))
    return 0


def _root(args: Namespace) -> int:
    from pathlib import Path

    from launcher.cli import progress
    from launcher.roots import make_root, source_date

    epoch = source_date()
    made = make_root(Path(args.image), Path(args.content), epoch, _order(args, reuse=True), progress.show)
    words = f'root_hash = "{made.root_hash}"\nblocks = {made.blocks}\n'
    described = {
        "schema": "cvm.root/1",
        "path": args.image,
        "size": made.size,
        "blocks": made.blocks,
        "root_hash": made.root_hash,
        "source_date_epoch": epoch,
    }
    _print(described, args.json, lambda: f'[[disk]]\npath = "{args.image}"\n[disk.verity]\n{words}')
    return 0


def _uki(args: Namespace) -> int:
    from pathlib import Path

    from launcher.boot_disks import BOOT_PATH, make_boot_disk
    from launcher.cli import progress

    cmdline = make_boot_disk(Path(args.image), args.vm, _order(args), progress.show).decode("ascii")
    described = {"schema": "cvm.uki/1", "path": args.image, "boots": BOOT_PATH, "cmdline": cmdline}
    _print(described, args.json, lambda: f"{args.image}: boots {BOOT_PATH}\ncommand line: {cmdline}\n")
    return 0


def _show(args: Namespace) -> int:
    from pathlib import Path

    from launcher.image.build import read_manifest
    from launcher.image.errors import ImageDamaged

    manifest = read_manifest(Path(args.dir))
    if manifest is None:
        raise ImageDamaged(
            f"{args.dir}: no intact image: manifest.json is missing, or a file differs from its hash there"
        )
    _print(manifest, args.json, lambda: _summary(Path(args.dir), manifest) + _inputs(manifest))
    return 0


def _toolchain(args: Namespace) -> int:
    from launcher.cli import progress
    from launcher.io.toolchain import qemu_extras
    from launcher.io.toolchain_fetch import fetch_toolchain

    tools = fetch_toolchain(progress=progress.show, storage=args.storage)
    described = {
        "storage": sorted(qemu_extras(tools)),
        "qemu": tools.version,
        "source": tools.source,
        "firmware": str(tools.firmware_dir),
        "argv": tools.qemu_argv,
    }
    _print(described, args.json, lambda: f"QEMU {tools.version} ({tools.source}), firmware in {tools.firmware_dir}\n")
    return 0


def _prepare(args: Namespace) -> int:
    from launcher.cli import progress
    from launcher.io.cachedir import cache_folder
    from launcher.io.toolchain_fetch import fetch_toolchain
    from launcher.provision import ensure_image

    tools = fetch_toolchain(progress=progress.show)
    folder = cache_folder() / "image"
    # This image is for trying things out and guards nothing: a frozen mirror is good enough for it.
    args.allow_expired = True
    manifest = ensure_image(folder, _order(args, reuse=True), progress.show)
    described = {"qemu": tools.version, "source": tools.source, "image": str(folder), "manifest": manifest}
    _print(described, args.json, lambda: f"QEMU {tools.version} ({tools.source})\n{_summary(folder, manifest)}")
    return 0


def _order(args: Namespace, *, refresh: bool = False, reuse: bool = False) -> ImageOrder:
    from launcher.core.debian import HOST_MIRROR
    from launcher.provision import ImageOrder

    security = args.security_mirror or HOST_MIRROR
    return ImageOrder(
        suite=args.suite,
        mirror=args.mirror or HOST_MIRROR,
        security_mirror=None if security == "none" else security,
        allow_expired=args.allow_expired,
        refresh=refresh,
        reuse=reuse,
    )


def _print(document: object, as_json: bool, text: Callable[[], str]) -> None:
    import sys

    if as_json:
        from json import dumps

        sys.stdout.write(dumps(document, indent=1) + "\n")
    else:
        sys.stdout.write(text())


def _summary(folder: Path, manifest: dict[str, object]) -> str:
    lines = [f"{folder}: {manifest['suite']}, Python {manifest['python']}, {len(_list(manifest, 'inputs'))} packages"]
    for name in ("kernel", "initrd"):
        entry = manifest[name]
        if isinstance(entry, dict):
            lines.append(f"  {name:<7} {entry['path']:<11} {entry['size'] / 1e6:5.1f} MB  sha256:{entry['sha256']}")
    return "\n".join(lines) + "\n"


def _inputs(manifest: dict[str, object]) -> str:
    return "".join(f"  {p['name']} {p['version']}  sha256:{p['sha256']}\n" for p in _list(manifest, "inputs"))


def _list(manifest: dict[str, object], name: str) -> list[dict[str, str]]:
    entries = manifest.get(name)
    return entries if isinstance(entries, list) else []
