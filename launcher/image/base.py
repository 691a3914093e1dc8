"""The part of an image that comes from Debian's packages: built once per set of packages and kept.

A base is a folder: ``vmlinuz``, ``base.cpio.zst`` (kernel modules, Python, cryptography, cryptsetup, shell),
``root/`` (the guest's Python, and what makes images) and ``base.json`` (what it was made from). Measured on 2 cores:
25 s, 10.6 MB.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.core.debian import Package
from launcher.image.cpio import Node, archive, file
from launcher.image.kernel import Kernel, read_kernel
from launcher.image.sysroot import BASE_LEVEL, Source, Sysroot
from launcher.image.userland import Userland, is_python_source, read_userland

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

Progress = Callable[[str], None]

_SCHEMA: Final = "cvm.image-base/1"
# The shebang's one argument: isolated mode, so that neither the environment nor the working folder chooses modules.
_INIT: Final = b"#!/usr/bin/python3 -I\nimport cvm_init\n\ncvm_init.main()\n"


@dataclass(frozen=True, slots=True)
class Base:
    """A finished base. ``inputs`` are ``{"name", "version", "architecture", "sha256"}`` of the packages used."""

    folder: Path
    suite: str
    builder: str
    release: str
    python: str
    modules: tuple[str, ...]
    inputs: tuple[dict[str, str], ...]

    @property
    def vmlinuz(self) -> Path:
        """The kernel, exactly as in Debian's package."""
        return self.folder / "vmlinuz"

    @property
    def archive(self) -> Path:
        """The compressed archive, a multiple of 4 bytes long."""
        return self.folder / "base.cpio.zst"

    @property
    def sysroot(self) -> Sysroot:
        """The guest's Python."""
        return Sysroot(self.folder / "root")


def builder_version() -> str:
    """A digest of this builder's own sources: what they do is an input like any package."""
    digest = hashlib.sha256(_SCHEMA.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()


def base_key(packages: Iterable[Package]) -> str:
    """A name for the base that these packages and this version of the builder make (16 hexadecimal digits)."""
    digest = hashlib.sha256(builder_version().encode())
    for package in sorted(packages):
        digest.update(f"{package.name}\0{package.version}\0{package.sha256}\n".encode())
    return digest.hexdigest()[:16]


def load_base(folder: Path) -> Base | None:
    """The base in ``folder``, or ``None`` when there is none."""
    try:
        described = json.loads((folder / "base.json").read_text())
        return Base(
            folder,
            described["suite"],
            described["builder"],
            described["release"],
            described["python"],
            tuple(described["modules"]),
            tuple(described["inputs"]),
        )
    except (OSError, ValueError, KeyError):
        return None


def build_base(
    packages: Sequence[Package], folder: Path, suite: str, progress: Progress, level: int = BASE_LEVEL
) -> None:
    """Fill the empty ``folder`` with a base compressed at zstd's ``level``. Raises ImageError, PackageMalformed."""
    started = time.monotonic()
    kernel = read_kernel(packages)
    userland = read_userland(packages)
    progress(f"image: kernel {kernel.release}, {len(userland.packages)} packages")
    sysroot = Sysroot.unpack((*userland.nodes, *userland.tools), folder / "root")
    nodes = [*kernel.nodes, *_compiled(userland.nodes, sysroot), file("init", _INIT, executable=True)]
    blob = archive(nodes)
    progress(f"image: compressing {len(blob) / 1e6:.1f} MB")
    (folder / "base.cpio.zst").write_bytes(pad(sysroot.compress(blob, level)))
    (folder / "vmlinuz").write_bytes(kernel.vmlinuz)
    (folder / "base.json").write_text(_description(kernel, userland, suite))
    progress(f"image: base ready after {time.monotonic() - started:.0f} s")


def pad(segment: bytes) -> bytes:
    """The kernel looks for the next archive of an initrd at a multiple of 4 bytes and skips zeros before it."""
    return segment + bytes(-len(segment) % 4)


def _compiled(nodes: Iterable[Node], sysroot: Sysroot) -> list[Node]:
    """``nodes`` with every Python module replaced by its bytecode beside where its source was."""
    listed = sorted(nodes, key=lambda node: node.path)
    modules = [node for node in listed if is_python_source(node)]
    # Docstrings and assertions of Debian's modules are of no use in the guest.
    code = sysroot.compile([Source(node.path, sysroot.file(node.path), 2) for node in modules])
    others = [node for node in listed if not is_python_source(node)]
    return others + [file(f"{node.path}c", data) for node, data in zip(modules, code, strict=True)]


def _description(kernel: Kernel, userland: Userland, suite: str) -> str:
    packages = sorted({kernel.package, *userland.packages})
    described = {
        "schema": _SCHEMA,
        "suite": suite,
        "builder": builder_version(),
        "release": kernel.release,
        "python": next(
            node.data.decode().removeprefix("python") for node in userland.nodes if node.path == "usr/bin/python3"
        ),
        "modules": [Path(node.path).name.removesuffix(".ko") for node in kernel.nodes if node.path.endswith(".ko")],
        "inputs": [
            {"name": p.name, "version": p.version, "architecture": p.architecture, "sha256": p.sha256} for p in packages
        ],
    }
    return json.dumps(described, indent=1) + "\n"
