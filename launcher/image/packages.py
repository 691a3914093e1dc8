"""The files inside Debian packages, read in memory: nothing is extracted, installed or run."""

from __future__ import annotations

import io
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from launcher.core.debian import Package
from launcher.image.cpio import Node
from launcher.image.errors import PackageMalformed

Files = dict[str, Node]
"""Path without leading slash -> regular file or symbolic link."""


def read_package(package: Package, wanted: Callable[[str], bool]) -> Files:
    """The regular files and symbolic links of ``package`` for whose path ``wanted`` says yes.

    Permissions are reduced to 0755 and 0644; owners and times are dropped. Raises PackageMalformed.
    """
    command = ("dpkg-deb", "--fsys-tarfile", str(package.path))
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise PackageMalformed(f"{package.path.name}: {done.stderr.decode(errors='replace').strip()}")
    files: Files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(done.stdout), mode="r:") as tar:
            for member in tar:
                path = member.name.removeprefix("./").strip("/")
                if (member.isfile() or member.issym()) and wanted(path):
                    files[path] = _node(tar, member, path)
    except tarfile.TarError as error:
        raise PackageMalformed(f"{package.path.name}: {error}") from error
    return files


def _node(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> Node:
    if member.issym():
        return Node(path, stat.S_IFLNK | 0o777, member.linkname.encode())
    content = tar.extractfile(member)
    data = b"" if content is None else content.read()
    return Node(path, stat.S_IFREG | (0o755 if member.mode & 0o100 else 0o644), data)


def read_packages(packages: Iterable[Package], wanted: Callable[[str], bool]) -> dict[Package, Files]:
    """`read_package` for several packages; decompression runs in ``dpkg-deb``, so threads help."""
    listed = sorted(packages)
    with ThreadPoolExecutor(max_workers=4) as pool:
        return dict(zip(listed, pool.map(lambda package: read_package(package, wanted), listed), strict=True))
