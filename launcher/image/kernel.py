"""The kernel, and the few of its modules that a protected guest needs, in an order in which they can be loaded.

The guest has no udev and no modprobe: every module in the list is loaded by ``/init`` in turn, so dependencies are
resolved here. A module the hardware does not want (``sev-guest`` outside SNP) refuses to load, which ``/init``
expects.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from launcher.core.debian import Package
from launcher.image.cpio import Node, file
from launcher.image.elf import module_info
from launcher.image.errors import ImageError, PackageMalformed
from launcher.image.packages import Files, read_package

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

KERNEL_PACKAGE: Final = "linux-image-cloud-amd64"
MODULE_LIST: Final = "usr/lib/cvm/modules"

MODULES: Final = (
    # devices
    "virtio_blk", "virtio_net", "virtio_rng",
    # the power button, by which the host asks for an orderly end
    "button", "evdev",
    # what the host hands over: init-data
    "qemu_fw_cfg",
    # disks: encryption, read-only integrity, layers
    "dm-mod", "dm-crypt", "dm-verity", "overlay", "squashfs",
    # ciphers for LUKS; cryptsetup reaches them through AF_ALG
    "ecb", "xts", "aesni-intel", "sha256-ssse3", "algif_skcipher", "algif_hash",
    # evidence
    "configfs", "tsm", "sev-guest", "tdx-guest",
)  # fmt: skip

_IMAGE_PACKAGE = re.compile(r"linux-image-\d.*-cloud-amd64")


@dataclass(frozen=True, slots=True)
class Kernel:
    """``release`` as ``uname -r`` says it, the bzImage, the module files (uncompressed) and the list for ``/init``."""

    release: str
    vmlinuz: bytes
    nodes: tuple[Node, ...]
    package: Package


def read_kernel(packages: Iterable[Package], modules: Iterable[str] = MODULES) -> Kernel:
    """The kernel of the one ``linux-image-…-cloud-amd64`` package. Raises ImageError, PackageMalformed."""
    found = [package for package in packages if _IMAGE_PACKAGE.fullmatch(package.name)]
    if len(found) != 1:
        raise ImageError(f"image: want one package linux-image-…-cloud-amd64, got {[p.name for p in found]}")
    files = read_package(found[0], _wanted)
    images = [path for path in files if path.startswith("boot/vmlinuz-")]
    if len(images) != 1:
        raise ImageError(f"{found[0].name}: want one boot/vmlinuz-…, got {images}")
    release = images[0].removeprefix("boot/vmlinuz-")
    return Kernel(release, files[images[0]].data, _select(files, modules), found[0])


def _wanted(path: str) -> bool:
    return path.startswith("boot/vmlinuz-") or ".ko" in path or path.endswith("/modules.builtin")


def _select(files: Files, modules: Iterable[str]) -> tuple[Node, ...]:
    by_name = {_stem(path): path for path in files if ".ko" in path}
    builtin = {_stem(line) for path in files if path.endswith("/modules.builtin") for line in _lines(files[path])}
    loaded: dict[str, Node] = {}
    for name in modules:
        _add(_normal(name), by_name, builtin, files, loaded)
    listing = "".join(f"/{node.path}\n" for node in loaded.values())
    return (*loaded.values(), file(MODULE_LIST, listing.encode()))


def _add(name: str, by_name: dict[str, str], builtin: set[str], files: Files, loaded: dict[str, Node]) -> None:
    """Put ``name`` after everything it depends on; already loaded and built-in modules need nothing."""
    if name in loaded or name in builtin:
        return
    if name not in by_name:
        raise ImageError(f"image: kernel module {name} is neither built in nor in the kernel's package")
    path = by_name[name]
    data = _unpacked(path, files[path].data)
    info = module_info(data, path)
    for dependency in ",".join(info.get("depends", ())).split(","):
        if dependency:
            _add(_normal(dependency), by_name, builtin, files, loaded)
    loaded[name] = file(path.removesuffix(".xz"), data)


def _unpacked(path: str, data: bytes) -> bytes:
    """The module itself: the archive as a whole is compressed, which beats compressing each file."""
    if not path.endswith(".xz"):
        return data
    try:
        return lzma.decompress(data)
    except lzma.LZMAError as error:
        raise PackageMalformed(f"{path}: {error}") from error


def _lines(node: Node) -> list[str]:
    return node.data.decode("utf-8", "replace").splitlines()


def _stem(path: str) -> str:
    return _normal(PurePosixPath(path).name.split(".ko")[0])


def _normal(name: str) -> str:
    return name.replace("-", "_")
