"""The guest's Python, unpacked in a folder and run on the build machine through its own loader.

It compiles the guest's modules (bytecode belongs to one Python version) and compresses the archive with the guest's
libzstd. So the image depends on the packages' bytes and on this project, not on what the build machine has installed.
"""

from __future__ import annotations

import json
import posixpath
import stat
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from launcher.image.cpio import Node
from launcher.image.errors import ImageError
from launcher.image.userland import LIBRARIES
from policy.wire import ByteReader

_HELPER: Final = Path(__file__).with_name("sysroot_helper.py")
# Debian compresses its own initrds at 19 too. 36 MB: 17 s and 11.0 MB; level 15: 6 s and 12.3 MB.
BASE_LEVEL: Final = 19


@dataclass(frozen=True, slots=True)
class Source:
    """A module to compile: ``content`` as it is, its ``path`` in the guest, and Python's ``optimize`` level."""

    path: str
    content: Path
    optimize: int


class Sysroot:
    """The guest's files below ``root`` as far as its Python needs them."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @classmethod
    def unpack(cls, nodes: Iterable[Node], root: Path) -> Sysroot:
        """Write files and relative links below ``root``; device nodes and absolute links are left out."""
        for node in nodes:
            path = root / node.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if stat.S_ISREG(node.mode):
                path.write_bytes(node.data)
                path.chmod(node.mode & 0o777)
            elif stat.S_ISLNK(node.mode) and not node.data.startswith(b"/"):
                path.symlink_to(node.data.decode())
        return cls(root)

    def file(self, path: str) -> Path:
        """Where the guest's ``path`` is on this machine."""
        return self._root / path

    def compile(self, sources: Sequence[Source]) -> tuple[bytes, ...]:
        """Bytecode (``.pyc`` content) of each source, in order. Raises ImageError with Python's message."""
        work = json.dumps([[str(source.content), "/" + source.path, source.optimize] for source in sources])
        reader = ByteReader(self._run(work.encode(), "compile"), "compiled modules")
        return tuple(reader.take(reader.u32("length"), source.path) for source in sources)

    def compress(self, data: bytes, level: int) -> bytes:
        """One zstd frame."""
        return self._run(data, "zstd", str(level))

    def run(self, program: str, *arguments: str, stdin: bytes | IO[bytes] = b"") -> bytes:
        """The standard output of ``program`` (its path in the guest). Raises ImageError with what it said."""
        libraries = self._root / LIBRARIES
        command = (
            str(libraries / "ld-linux-x86-64.so.2"), "--inhibit-cache", "--library-path", str(libraries),
            str(self._root / program), *arguments,
        )  # fmt: skip
        # The order of sets in bytecode follows the hash seed.
        env = {"PYTHONHOME": str(self._root / "usr"), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        data, source = (stdin, None) if isinstance(stdin, bytes) else (None, stdin)
        name = posixpath.basename(program)
        try:
            done = subprocess.run(command, input=data, stdin=source, env=env, capture_output=True, check=False)
        except OSError as error:
            raise ImageError(
                f"the guest's {name} does not start on this machine: {error.strerror}",
                hint="guest images are built on x86-64 Linux",
            ) from error
        if done.returncode != 0:
            raise ImageError(f"the guest's {name}: {done.stderr.decode(errors='replace').strip()[-600:]}")
        return done.stdout

    def _run(self, stdin: bytes, *arguments: str) -> bytes:
        return self.run("usr/bin/python3", "-B", "-S", "-P", str(_HELPER), *arguments, stdin=stdin)
