"""A deterministic writer for the cpio "newc" format, which Linux unpacks as its initial RAM file system.

Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst. A member is a 110-byte header of ASCII
digits (magic ``070701``, then 13 fields of 8 hexadecimal digits), the name with its NUL padded to 4 bytes from the
header's start, and the data padded to 4 bytes. The archive ends with the member ``TRAILER!!!`` and is padded with
zeros to 512 bytes.

The same set of nodes always gives the same bytes: members are sorted by path, every time is 0, every owner is root,
inode numbers count up, and the folders that a path implies are added with mode 0755.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

from launcher.image.errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

ALIGNMENT: Final = 512
_TRAILER: Final = "TRAILER!!!"
_LIMIT: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Node:
    """One member. ``path`` is relative without a leading slash; ``mode`` holds the file type and the permission bits.

    ``data`` is a file's content or a symbolic link's target; ``device`` is ``(major, minor)`` of a device node.
    """

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def file(path: str, data: bytes, *, executable: bool = False) -> Node:
    """A regular file, 0755 or 0644."""
    return Node(path, stat.S_IFREG | (0o755 if executable else 0o644), data)


def folder(path: str, permissions: int = 0o755) -> Node:
    """A directory."""
    return Node(path, stat.S_IFDIR | permissions)


def symlink(path: str, target: str) -> Node:
    """A symbolic link."""
    return Node(path, stat.S_IFLNK | 0o777, target.encode())


def device(path: str, major: int, minor: int, permissions: int = 0o600) -> Node:
    """A character device."""
    return Node(path, stat.S_IFCHR | permissions, device=(major, minor))


def archive(nodes: Iterable[Node]) -> bytes:
    """The archive of ``nodes`` in whatever order they come.

    Raises ImageError for a path that is absolute, empty, has ``.`` or ``..`` parts or a NUL, or is there twice; for a
    member below something that is not a folder; and for a member of 4 GiB or more.
    """
    members: dict[str, Node] = {}
    for node in nodes:
        _check(node)
        if node.path in members:
            raise ImageError(f"initrd: {node.path} is there twice, want one node per path")
        members[node.path] = node
    for path in list(members):
        _add_parents(path, members)
    parts = [_member(node, inode) for inode, node in enumerate(_ordered(members), start=1)]
    parts.append(_member(Node(_TRAILER, 0), 0))
    blob = b"".join(parts)
    return blob + bytes(-len(blob) % ALIGNMENT)


def _ordered(members: dict[str, Node]) -> list[Node]:
    # By path parts, not by text: a folder then always comes right before what is in it.
    return [members[path] for path in sorted(members, key=lambda path: path.split("/"))]


def _check(node: Node) -> None:
    parts = node.path.split("/")
    if "\0" in node.path or any(part in ("", ".", "..") for part in parts) or node.path == _TRAILER:
        raise ImageError(f"initrd: path {node.path!r} must be relative and plain")
    if len(node.data) > _LIMIT:
        raise ImageError(f"initrd: {node.path} has {len(node.data)} bytes, want less than 4 GiB")


def _add_parents(path: str, members: dict[str, Node]) -> None:
    parts = path.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        parent = members.setdefault("/".join(parts[:depth]), folder("/".join(parts[:depth])))
        if not stat.S_ISDIR(parent.mode):
            raise ImageError(f"initrd: {path} lies below {parent.path}, which is not a folder")


def _member(node: Node, inode: int) -> bytes:
    name = node.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(node.mode) else 1
    major, minor = node.device
    fields = (inode, node.mode, 0, 0, links, 0, len(node.data), 0, 0, major, minor, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return head + bytes(-len(head) % 4) + node.data + bytes(-len(node.data) % 4)
