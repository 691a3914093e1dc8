"""Landlock: a process and its children may use only these files and ports from now on, whoever they are. Source:
landlock(7).
"""

from __future__ import annotations

import ctypes
import os
import stat

from launcher.io.libc import checked, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SYS_LANDLOCK = 444
"""Of x86_64: ``landlock_create_ruleset``; ``landlock_add_rule`` and ``landlock_restrict_self`` follow."""
# linux/landlock.h: what each kind of entry may be used for.
_EXECUTE, _WRITE, _READ, _READ_DIR, _MAKE_SOCK, _TRUNCATE, _IOCTL = 1, 2, 4, 8, 1 << 9, 1 << 14, 1 << 15
_REMOVE_FILE, _MAKE_REG = 1 << 5, 1 << 8
_REMOVE_DIR, _MAKE_DIR, _MAKE_SYM, _REFER = 1 << 4, 1 << 7, 1 << 12, 1 << 13
_RIGHTS = {
    "tools": _EXECUTE | _READ | _READ_DIR,
    "read": _READ,
    "write": _READ | _WRITE | _TRUNCATE,
    "device": _READ | _WRITE | _IOCTL,
    "folder": _READ_DIR | _MAKE_SOCK,
    "socket": 0,
    "state": _READ | _WRITE | _READ_DIR | _TRUNCATE | _MAKE_REG | _REMOVE_FILE,
    "shown": _READ | _READ_DIR,
    "shared": _READ
    | _WRITE
    | _READ_DIR
    | _TRUNCATE
    | _MAKE_REG
    | _MAKE_DIR
    | _MAKE_SYM
    | _REMOVE_FILE
    | _REMOVE_DIR
    | _REFER,
}
_FILE_RIGHTS = _EXECUTE | _WRITE | _READ | _TRUNCATE | _IOCTL
_ABI_FS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}


def landlock(spec: dict[str, Any]) -> str:
    """Restrict this process to the ``paths`` of ``spec``, those ``inside`` its folder, and where it has ``tcp`` to the
    ports it may ``connect`` to (`launcher.io.isolation` makes it); what is enforced. Raises :class:`Refused`, OSError.
    """
    abi = checked(libc.syscall(_SYS_LANDLOCK, None, 0, 1), "landlock")
    handled = _ABI_FS[max(number for number in _ABI_FS if number <= abi)]
    ports = spec["connect"] if spec["tcp"] else []
    net = 3 if abi >= 4 and ports is not None else 0  # bind and connect
    scoped = 3 if abi >= 6 else 0
    attributes = (ctypes.c_uint64 * 3)(handled, net, scoped)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = checked(libc.syscall(_SYS_LANDLOCK, attributes, size, 0), "landlock_create_ruleset")
    for path, kind in spec["paths"]:
        _allow(ruleset, path, _RIGHTS[kind], handled)
    for path, kind in spec["inside"]:
        _allow(ruleset, path, _RIGHTS[kind], handled)
    for port in (ports or []) if net else []:  # struct landlock_net_port_attr: allowed access (2 is connect), port
        rule = (2).to_bytes(8, "little") + port.to_bytes(8, "little")
        checked(libc.syscall(_SYS_LANDLOCK + 1, ruleset, 2, rule, 0), "landlock_add_rule")
    checked(libc.syscall(_SYS_LANDLOCK + 2, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)
    only = f"TCP to {', '.join(map(str, ports))} only" if ports else "no TCP"
    words = ["files"] + [only] * bool(net) + ["signals and abstract sockets inside only"] * bool(scoped)
    return f"ABI {abi}: {', '.join(words)}"


def _allow(ruleset: int, path: str, rights: int, handled: int) -> None:
    rights &= handled
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FILE_RIGHTS
        if is_device(path) and rights & _READ:
            rights |= _IOCTL & handled  # a disk may be a block device
        if rights:  # struct landlock_path_beneath_attr is packed: u64, s32
            rule = rights.to_bytes(8, "little") + descriptor.to_bytes(4, "little")
            checked(libc.syscall(_SYS_LANDLOCK + 1, ruleset, 1, rule, 0), "landlock_add_rule")
    finally:
        os.close(descriptor)


def is_device(path: str) -> bool:
    """Whether it is a block or a character device."""
    mode = os.stat(path).st_mode
    return stat.S_ISBLK(mode) or stat.S_ISCHR(mode)
