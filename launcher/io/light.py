"""The files of a light VM: kernel and initrd unpacked on the host, and QEMU's small firmware ``qboot.rom``.

A guest unpacks its kernel and its initrd at every boot; a host does it once. The results are kept by the packed files'
SHA-256 and can be deleted at any time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from launcher.core.bzimage import KernelUnusable, check_pvh, compression, payload, plain_end
from launcher.core.spec import LightFiles
from launcher.errors import HostNotCapable, StateUnusable
from launcher.io.cachedir import cache_folder
from launcher.io.hashing import read_file
from launcher.io.toolchain import Toolchain
from launcher.io.unpack import unpack

MAX_INITRD = 2 << 30
_SYSTEM_ROMS = (Path("/usr/share/qemu"), Path("/usr/share/seabios"))


def light_files(kernel: str, initrd: str | None, tools: Toolchain, cache: Path | None = None) -> LightFiles:
    """Unpack what is not unpacked yet. Raises `KernelUnusable`, `UnpackFailed`, `FileUnreadable`, `HostNotCapable`."""
    folder = (cache_folder() if cache is None else cache) / "light"
    return LightFiles(
        firmware=_qboot(tools),
        kernel=_kept(folder, kernel, "kernel", _kernel),
        initrd=None if initrd is None else _kept(folder, initrd, "initrd", _initrd),
    )


def _qboot(tools: Toolchain) -> str:
    argv = tools.qemu_argv
    given = [Path(argv[number + 1]) for number, word in enumerate(argv[:-1]) if word == "-L"]
    for folder in given or _SYSTEM_ROMS:
        if (folder / "qboot.rom").is_file():
            return str(folder / "qboot.rom")
    raise HostNotCapable("light: no qboot.rom beside this QEMU", hint="apt install qemu-system-data")


def _kernel(data: bytes, path: str) -> bytes:
    what = f"light: kernel {path}"
    if data[:4] != b"\x7fELF":
        found = payload(data, what)
        data = unpack(data[found.start : found.end], found.compression, found.size, what).data
        if len(data) != found.size:
            raise KernelUnusable(f"{what}: {len(data)} bytes unpacked, its header says {found.size}")
    check_pvh(data, what)
    return data


def _initrd(data: bytes, path: str) -> bytes:
    """All archives of an initrd, unpacked, each on a boundary of 4 bytes. Source: Linux
    ``Documentation/driver-api/early-userspace/buffer-format.rst``: archives, packed or not, with zeros between them.
    """
    what = f"light: initrd {path}"
    found = bytearray()
    at = 0
    while at < len(data):
        if data[at] == 0:
            at += 1
            continue
        if data.startswith(b"0707", at):
            end = plain_end(data, at, what)
            archive, taken = data[at:end], end - at
        else:
            archive, taken = unpack(data[at:], compression(data[at : at + 6], what), MAX_INITRD - len(found), what)
        found += archive + bytes(-len(archive) % 4)
        at += taken
    return bytes(found)


def _kept(folder: Path, path: str, what: str, make: Callable[[bytes, str], bytes]) -> str:
    data = read_file(path, what, MAX_INITRD)
    target = folder / f"{sha256(data).hexdigest()}.{what}"
    if not target.exists():
        fresh = target.with_suffix(f".tmp-{os.getpid()}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(make(data, path))
            fresh.replace(target)
        except OSError as exc:
            raise StateUnusable(f"light: {target}: {exc.strerror}") from None
        finally:
            fresh.unlink(missing_ok=True)
    return str(target)
