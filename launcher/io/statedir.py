"""State folders: one per VM, for its owner only, written atomically, locked while a launcher lives.

Root: ``CVM_STATE``, else ``$XDG_STATE_HOME/cvm``, else ``~/.local/state/cvm``. Strings and ``os`` only: ``cvm ps``
comes through here and its start-up time is what an operator feels.
"""

from __future__ import annotations

import os

from launcher.core.names import STATE_FILE
from launcher.errors import NotFound, StateUnusable, WrongState
from policy import plain_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO, Any

_LOCK = "lock"
_MAX_STATE = 1 << 20
FIRST_UID = 1_900_000_000
"""QEMU's own users begin here: above every range that distributions and systemd hand out (UIDS-GIDS.md)."""


def state_root(environ: Mapping[str, str] | None = None) -> str:
    """The folder of all VMs; it need not exist."""
    env = os.environ if environ is None else environ
    if env.get("CVM_STATE"):
        return os.path.abspath(env["CVM_STATE"])
    base = env.get("XDG_STATE_HOME") or os.path.join(env.get("HOME") or "/", ".local/state")
    return os.path.join(os.path.abspath(base), "cvm")


def vm_names(root: str) -> list[str]:
    """Every VM with a state, sorted."""
    try:
        entries = os.listdir(root)
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise StateUnusable(f"{root}: {exc.strerror}") from None
    return sorted(
        name for name in entries if not name.startswith(".") and os.path.exists(f"{root}/{name}/{STATE_FILE}")
    )


def existing(root: str, name: str) -> VmDir:
    """The folder of a known VM, or :class:`NotFound`."""
    if "/" in name or name.startswith(".") or not os.path.exists(f"{root}/{name}/{STATE_FILE}"):
        known = ", ".join(vm_names(root)[:8]) or "none"
        raise NotFound(f"no VM named {name[:80]!r}", hint=f"known: {known} (cvm ps)")
    return VmDir(root, name)


def sync(path: str) -> None:
    """What a file holds, or a folder names, is on disk when this returns. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class VmDir:
    """One VM's folder. Reading needs no lock: every file is replaced in one step."""

    __slots__ = ("_lock", "name", "path")

    def __init__(self, root: str, name: str) -> None:
        self.name = name
        self.path = f"{root}/{name}"
        self._lock = -1

    def file(self, name: str) -> str:
        """Path of one file of this VM."""
        return f"{self.path}/{name}"

    def create(self) -> None:
        """Make the folder (0700) if needed and refuse one that others can enter. Raises :class:`StateUnusable`."""
        try:
            root = os.path.dirname(self.path)
            os.makedirs(root, mode=0o700, exist_ok=True)
            if not os.path.isdir(self.path):
                os.mkdir(self.path, 0o700)
            found = self._reclaimed(os.stat(self.path, follow_symlinks=False))
        except OSError as exc:
            raise StateUnusable(f"state folder {self.path}: {exc.strerror}") from None
        if found.st_uid != os.geteuid() or found.st_mode & 0o077 or found.st_mode & 0o170000 != 0o040000:
            raise StateUnusable(
                f"state folder {self.path}: mode {found.st_mode & 0o7777:04o} uid {found.st_uid}, want a folder, "
                f"mode 0700, uid {os.geteuid()}"
            )

    def _reclaimed(self, found: os.stat_result) -> os.stat_result:
        """A launcher that was killed left the folder to its QEMU's group: take it back, nobody else's."""
        if found.st_uid != os.geteuid() or found.st_mode & 0o7777 != 0o1770 or found.st_gid < FIRST_UID:
            return found
        os.chmod(self.path, 0o700)
        os.chown(self.path, -1, os.getegid())
        return os.stat(self.path, follow_symlinks=False)

    def lock(self) -> None:
        """Become this VM's only launcher until the process ends. Raises :class:`WrongState` if there is one."""
        import fcntl

        self._lock = os.open(self.file(_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.unlock()
            raise WrongState(f"VM {self.name}: a launcher is already at work", hint=f"cvm stop {self.name}") from None

    def unlock(self) -> None:
        """Let go."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def is_locked(self) -> bool:
        """Whether a launcher holds this VM now."""
        import fcntl

        try:
            descriptor = os.open(self.file(_LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def clear(self, *keep: str) -> None:
        """Remove what an earlier launch left, folders with all they hold, but for ``keep``; call with the lock held."""
        for entry in os.scandir(self.path):
            if entry.name in (_LOCK, *keep):
                continue
            if entry.is_dir(follow_symlinks=False):
                from shutil import rmtree  # loads every kind of archive; few VMs leave a folder

                rmtree(entry.path)
            else:
                os.unlink(entry.path)

    def remove(self, *names: str) -> None:
        """Remove files that may be there."""
        for name in names:
            try:
                os.unlink(self.file(name))
            except FileNotFoundError:
                continue

    def log(self, name: str) -> IO[bytes]:
        """A file that is only added to, opened and made (0600) if needed. Raises OSError."""
        descriptor = os.open(self.file(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return os.fdopen(descriptor, "ab", buffering=0)

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Replace a file in one step (0600): a reader sees the old or the new content, a crash leaves one of them.
        Without ``durable`` a crash of the machine may leave neither: waiting for the disk takes milliseconds.
        """
        beside = f".{name}.{os.getpid()}"
        fresh = self.file(beside)
        try:
            self.remove(beside)  # what is there is a dead launcher's, or was put there by a QEMU that was taken over
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                if durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(fresh, self.file(name))
        except OSError as exc:
            self._forget(fresh)  # on a full disk every byte counts
            raise StateUnusable(f"{self.file(name)}: {exc.strerror}") from None

    @staticmethod
    def _forget(path: str) -> None:
        try:
            os.unlink(path)
        except OSError:
            return

    def write_json(self, name: str, document: Mapping[str, object], *, durable: bool = True) -> None:
        """Replace a JSON file in one step."""
        self.write(name, (plain_json.pretty(document) + "\n").encode("ascii"), durable=durable)

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON object this launcher wrote; raises :class:`StateUnusable`."""
        path = self.file(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                document = plain_json.loads(os.read(descriptor, _MAX_STATE))
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise StateUnusable(f"{path}: {exc.strerror}") from None
        except (ValueError, RecursionError):
            raise StateUnusable(f"{path}: is not the JSON this program writes") from None
        if not isinstance(document, dict):
            raise StateUnusable(f"{path}: is not a JSON object")
        return document
