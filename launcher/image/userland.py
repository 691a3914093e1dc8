"""Which files of Debian's packages go into the guest: Python, cryptography, cryptsetup, a small shell, and their
libraries.

Shared libraries are found by following what each binary asks for (ELF ``DT_NEEDED``), so the list below names
programs only.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from launcher.core.debian import Package
from launcher.image.cpio import Node, device, file, folder, symlink
from launcher.image.elf import is_elf, needed_libraries
from launcher.image.errors import ImageError
from launcher.image.packages import Files, read_packages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

PACKAGES: Final = ("python3", "python3-cryptography", "cryptsetup-bin", "busybox", "libgcc-s1", "libzstd1")
TOOL_PACKAGES: Final = ("squashfs-tools",)
"""What makes images on the build machine, beside the guest's Python, and is no part of the guest."""
SITE: Final = "usr/lib/python3/dist-packages"
LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"

_SOURCES = re.compile(
    r"(python3(\.\d+)?(-minimal)?|libpython3.*|python3-(cryptography|cffi-backend)|cryptsetup-bin|busybox|squashfs-tools"
    r"|lib(?!systemd-shared|klibc|db5|sqlite).*|zlib1g)"
)
_DOCUMENTS: Final = ("usr/share/", "etc/", "var/", "usr/include/", "usr/libexec/")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Standard library parts that no agent and hardly a workload in a guest needs: tests, windows, editors, build tools.
_DROPPED_MODULES: Final = _words(
    """
    test idlelib tkinter turtledemo turtle ensurepip venv pydoc_data pydoc doctest unittest lib2to3 distutils
    xmlrpc wsgiref sqlite3 curses dbm _pyrepl mailbox imaplib poplib smtplib ftplib nntplib pdb pickletools
    webbrowser this antigravity __phello__ zoneinfo zipapp cProfile profile pstats trace tracemalloc bdb cmd
    code codeop rlcompleter tabnanny symtable pyclbr py_compile compileall modulefinder netrc plistlib
    _aix_support _ios_support _android_support _apple_support _osx_support sysconfig _pyio _pydecimal xml
    multiprocessing
    """
)
_KEPT_CODECS: Final = _words(
    """
    __init__ aliases ascii latin_1 iso8859_1 utf_8 utf_8_sig utf_16 utf_16_le utf_16_be utf_32 utf_32_le
    utf_32_be idna punycode raw_unicode_escape unicode_escape hex_codec base64_codec charmap cp437 cp1252
    undefined
    """
)
_KEPT_EXTENSIONS: Final = _words(
    """
    _asyncio _bz2 _contextvars _ctypes _decimal _hashlib _lzma _queue _ssl _uuid mmap resource termios
    """
)
_APPLETS: Final = _words(
    """
    [ basename blkid cat chmod chroot clear cmp cp cut date dd df dirname dmesg du echo env expr false find free grep
    gunzip head hexdump hostname id ip kill ln ls lsmod mkdir mkfifo mknod mktemp more mount mv nc od ping
    printf ps pwd readlink rm rmdir sed seq sh sha256sum sleep sort stat stty sync tail tar tee test touch tr
    true umount uname uniq uptime vi wc which xargs
    """
)


_PROGRAMS: Final = ("usr/bin/busybox", "usr/sbin/cryptsetup", "usr/sbin/veritysetup")
_TOOLS: Final = ("usr/bin/mksquashfs",)


@dataclass(frozen=True, slots=True)
class Userland:
    """The guest's files without kernel and agent, and the packages they were taken from; ``tools`` are programs and
    their libraries that stay on the build machine.
    """

    nodes: tuple[Node, ...]
    packages: tuple[Package, ...]
    tools: tuple[Node, ...] = ()


def read_userland(packages: Iterable[Package]) -> Userland:
    """Select the guest's files. Raises ImageError when a program or library is missing, PackageMalformed."""
    contents = read_packages((p for p in packages if _SOURCES.fullmatch(p.name)), _maybe_wanted)
    origin = {path: package for package, files in contents.items() for path in files}
    available: Files = {path: node for files in contents.values() for path, node in files.items()}
    version = _python_version(available)
    chosen = {path: node for path, node in available.items() if _is_program(path, version)}
    for path in (*_PROGRAMS, f"usr/bin/python{version}", f"{SITE}/_cffi_backend"):
        if not any(name.startswith(path) for name in chosen):
            raise ImageError(f"image: {path} is in none of the packages")
    _add_libraries(chosen, available)
    tools = _tools(chosen, available)
    used = {origin[path] for path in (*chosen, *tools)}
    return Userland((*chosen.values(), *_skeleton(version)), tuple(sorted(used)), tuple(tools.values()))


def _tools(chosen: Files, available: Files) -> Files:
    """The build machine's own programs, and what they need that is not in the guest already."""
    wanted = dict(chosen)
    for path in _TOOLS:
        if path not in available:
            raise ImageError(f"image: {path} is in none of the packages")
        wanted[path] = available[path]
    _add_libraries(wanted, available)
    return {path: node for path, node in wanted.items() if path not in chosen}


def _maybe_wanted(path: str) -> bool:
    return not path.startswith(_DOCUMENTS)


def _python_version(files: Files) -> str:
    for path in files:
        match = re.fullmatch(r"usr/bin/python(3\.\d+)", path)
        if match:
            return match.group(1)
    raise ImageError("image: no usr/bin/python3.N in the packages")


def _is_program(path: str, version: str) -> bool:
    if path in (*_PROGRAMS, f"usr/bin/python{version}"):
        return True
    if path.startswith(f"{SITE}/"):
        rest = path.removeprefix(f"{SITE}/")
        return rest.startswith(("cryptography/", "_cffi_backend")) and not rest.endswith((".pyi", ".typed"))
    prefix = f"usr/lib/python{version}/"
    return path.startswith(prefix) and _is_kept_module(path.removeprefix(prefix))


def _is_kept_module(path: str) -> bool:
    """``path`` is relative to the standard library's folder."""
    head, _, rest = path.partition("/")
    if head == "lib-dynload":
        return rest.split(".")[0] in _KEPT_EXTENSIONS
    if head == "encodings":
        return rest.removesuffix(".py") in _KEPT_CODECS
    if head.startswith(("config-", "_sysconfigdata")) or not path.endswith(".py"):
        return False
    return head.removesuffix(".py") not in _DROPPED_MODULES


def _add_libraries(chosen: Files, available: Files) -> None:
    """Add every shared library that a chosen file needs, and the loader, following symbolic links."""
    waiting = [path for path in chosen if is_elf(chosen[path].data)]
    # Opened by name at run time: glibc for thread cancellation, and the builder's own compressor is left out again.
    queue = ["ld-linux-x86-64.so.2", "libgcc_s.so.1"]
    while waiting or queue:
        for name in queue:
            waiting.extend(_add_library(name, chosen, available))
        queue = []
        if waiting:
            path = waiting.pop()
            queue = [name for name in needed_libraries(chosen[path].data, path) if f"{LIBRARIES}/{name}" not in chosen]


def _add_library(name: str, chosen: Files, available: Files) -> list[str]:
    """Add ``name`` and, when it is a link, its target; returns the paths of the ELF files added."""
    path = f"{LIBRARIES}/{name}"
    if path in chosen:
        return []
    if path not in available:
        raise ImageError(f"image: shared library {name} is in none of the packages")
    node = chosen[path] = available[path]
    if stat.S_ISLNK(node.mode):
        target = posixpath.normpath(posixpath.join(LIBRARIES, node.data.decode()))
        return _add_library(posixpath.relpath(target, LIBRARIES), chosen, available)
    return [path]


def _skeleton(version: str) -> list[Node]:
    """Folders, links and the handful of small files that programs expect."""
    links = {
        "bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64",
        "usr/lib64/ld-linux-x86-64.so.2": "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        "usr/bin/python3": f"python{version}", "etc/mtab": "../proc/self/mounts",
    }  # fmt: skip
    links |= {f"usr/bin/{name}": "busybox" for name in _APPLETS}
    files = {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        "etc/group": "root:x:0:\nnogroup:x:65534:\n",
        "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
        "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    }
    empty = ("proc", "sys", "dev", "run", "mnt", "var", "usr/sbin")
    return [
        *(symlink(path, target) for path, target in links.items()),
        *(file(path, text.encode()) for path, text in files.items()),
        *(folder(path) for path in empty),
        folder("tmp", 0o1777),
        folder("root", 0o700),
        # The kernel opens it for /init before anything is mounted.
        device("dev/console", 5, 1),
    ]


def is_python_source(node: Node) -> bool:
    """Whether ``node`` is a module that the guest's Python is to compile."""
    return stat.S_ISREG(node.mode) and fnmatch.fnmatchcase(node.path, "usr/lib/python3*/*.py")
