"""Use cases of setting a machine up: get the packages, build what is missing, keep it in the cache.

Several processes may ask at once; one works, the others wait and find it done.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.core.debian import HOST_MIRROR, Package, Suite
from launcher.image.base import Base, base_key, build_base, builder_version, load_base
from launcher.image.build import INITRD_FILE, KERNEL_FILE, MANIFEST_FILE, build_image, image_key, read_manifest
from launcher.image.errors import ImageError, ImageExists
from launcher.image.kernel import KERNEL_PACKAGE
from launcher.image.userland import PACKAGES, TOOL_PACKAGES
from launcher.io.apt import AptFolder
from launcher.io.cachedir import cache_folder, exclusive, staged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

Progress = Callable[[str], None]

PROJECT: Final = Path(__file__).resolve().parents[1]
_KEPT_BASES: Final = 3


@dataclass(frozen=True, slots=True)
class ImageOrder:
    """What to build: Debian release, its mirrors, and where the sources of the agent are.

    ``refresh`` asks the mirror even when the last answer is less than a day old; ``reuse`` asks it only when the
    cache has no base of this release at all.
    """

    suite: str = "trixie"
    mirror: str = HOST_MIRROR
    security_mirror: str | None = HOST_MIRROR
    allow_expired: bool = False
    refresh: bool = False
    reuse: bool = False
    project: Path = PROJECT


def ensure_image(out: Path, order: ImageOrder, progress: Progress, *, cache: Path | None = None) -> dict[str, object]:
    """Make sure that ``out`` holds the image of today's packages and sources; returns its manifest.

    Nothing is written when it does already. Raises FetchFailed, ImageError, PackageMalformed.
    """
    out = out.absolute()
    _refuse_strangers(out)
    base = ensure_base(order, progress, cache=cache)
    with exclusive(out.with_name(f".{out.name}.lock")):
        present = read_manifest(out)
        if present is not None and present.get("key") == image_key(base, order.project):
            return present
        with staged(out) as folder:
            manifest = build_image(base, order.project, folder)
    return manifest


def ensure_base(order: ImageOrder, progress: Progress, *, cache: Path | None = None) -> Base:
    """The base for today's packages, built if it is not in the cache. Raises FetchFailed, ImageError,
    PackageMalformed.
    """
    home = cache if cache is not None else cache_folder()
    if order.reuse and (newest := _newest_base(home / "image-base", order.suite)) is not None:
        return newest
    packages = fetch_packages((KERNEL_PACKAGE, *PACKAGES, *TOOL_PACKAGES), order, progress, cache=home)
    target = home / "image-base" / base_key(packages)
    with exclusive(home / "image-base.lock"):
        if load_base(target) is None:
            with staged(target) as folder:
                build_base(packages, folder, order.suite, progress)
            _drop_old(target)
        base = load_base(target)
    if base is None:
        raise ImageError(f"image: {target} was built and cannot be read")
    return base


def fetch_packages(
    names: Sequence[str], order: ImageOrder, progress: Progress, *, cache: Path | None = None
) -> tuple[Package, ...]:
    """``names`` and what they depend on, of the order's release. Raises FetchFailed."""
    suite = Suite(order.suite, order.mirror, order.security_mirror, order.allow_expired)
    home = cache if cache is not None else cache_folder()
    return AptFolder(home / f"apt-{suite.name}", suite, progress).fetch(names, refresh=order.refresh)


def _newest_base(bases: Path, suite: str) -> Base | None:
    """The last base built of ``suite`` by this version of the builder."""
    version = builder_version()
    found = (load_base(path) for path in sorted(bases.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True))
    return next((base for base in found if base and base.suite == suite and base.builder == version), None)


def _drop_old(newest: Path) -> None:
    """Keep a few bases: switching between releases or branches should not rebuild each time."""
    others: Iterable[Path] = (path for path in newest.parent.iterdir() if path != newest)
    for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[_KEPT_BASES - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


def _refuse_strangers(out: Path) -> None:
    """``out`` is replaced as a whole, so it must hold nothing but an image."""
    if out.is_dir():
        strangers = sorted({path.name for path in out.iterdir()} - {KERNEL_FILE, INITRD_FILE, MANIFEST_FILE})
        if strangers:
            raise ImageExists(
                f"{out}: holds {', '.join(strangers[:3])}, which is no part of an image",
                hint="give a folder that does not exist yet, or one with an image in it",
            )
    elif out.exists():
        raise ImageExists(f"{out}: is a file, want a folder")
