"""Use case: a root file system with a hash tree, out of a folder or a tar archive, by the guest's Debian."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from launcher.image.errors import ImageError, ImageExists
from launcher.image.verity import RootImage, write_root
from launcher.provision import ImageOrder, ensure_base
from policy.errors import CvmError

Progress = Callable[[str], None]


def source_date() -> int:
    """``SOURCE_DATE_EPOCH`` (reproducible-builds.org): the time every file of an image gets; 0 without one."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 32:
        raise CvmError(f"SOURCE_DATE_EPOCH={text[:40]!r}: want seconds since 1970, less than 2^32", code="usage")
    return int(text)


def make_root(image: Path, content: Path, epoch: int, order: ImageOrder, progress: Progress) -> RootImage:
    """Make ``image``; it gets its name once it is whole. Raises ImageExists, ImageError, FetchFailed."""
    if os.path.lexists(image):
        raise ImageExists(f"{image}: exists already", hint="give another name, or remove the file first")
    if not content.exists():
        raise ImageError(f"--content {content}: no such folder or archive", code="usage")
    base = ensure_base(order, progress)
    with published(image) as temporary:
        made = write_root(temporary, content, base.sysroot, epoch)
    progress(f"{image.name}: {made.blocks} blocks of squashfs, {made.size / 1e6:.1f} MB with the hash tree")
    return made


@contextmanager
def published(image: Path) -> Iterator[Path]:
    """A place for the file beside where it will be; it gets its name when the block ends well, and replaces nothing."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{image.name}.", dir=image.parent) as folder:
            temporary = Path(folder) / image.name
            yield temporary
            temporary.chmod(0o644)
            os.link(temporary, image)
    except FileExistsError:
        raise ImageExists(f"{image}: was made by somebody else meanwhile") from None
    except OSError as error:
        raise ImageError(f"{image}: {error.strerror}") from error
