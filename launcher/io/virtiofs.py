"""Shared folders of an ordinary VM: one virtiofsd for each, in a jail of its own that holds the one folder.

QEMU and the daemon get the two ends of a connection that is made before either starts: no socket has a name. The
daemon has the user of the folder's owner and no capability, so a guest can do there what that user could. A folder of
root's is shown as the VM's own user sees it, read only: a guest that could write it could leave programs that run as
root. When QEMU closes its end, the daemon ends. Source: virtiofsd(1) 1.13.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from launcher.core.confinement_settings import IsolationSettings
from launcher.core.facts import VIRTIOFSD_PATH, QemuFacts
from launcher.core.hardware import FIRST_SHARE_FD, Share
from launcher.core.helper_confinement import share_confinement
from launcher.core.storage_rules import FIX
from launcher.core.text import safe_text
from launcher.errors import PlanRefused, QemuFailed
from launcher.io.isolation import Fds, IsolationRefused, Step, allocate, jail_for, start_confined, statement
from launcher.io.process import end
from launcher.io.sockets import connect
from launcher.io.statedir import VmDir
from launcher.io.tail import last_lines

_LISTENING = 10
"""The number under which the daemon finds its socket."""
_EVERYBODY = (1 << 32) - 1


def check_share(share: Share) -> None:
    """Raise `PlanRefused` for what is no folder, or must not be changed by a guest."""
    where = f"share {share.tag}: {share.path}"
    try:
        found = os.stat(share.path)
    except OSError as exc:
        raise PlanRefused(f"{where}: {exc.strerror}", code="share.missing") from None
    if not stat.S_ISDIR(found.st_mode):
        raise PlanRefused(f"{where}: is no folder", code="share.kind")
    if found.st_uid == 0 and not share.readonly:
        raise PlanRefused(
            f"{where}: belongs to root: a guest that changes it could leave programs there that run as root",
            code="share.root",
            hint="readonly = true, or a folder of another user",
        )


@contextmanager
def shared(
    shares: Sequence[Share], settings: IsolationSettings, qemu: QemuFacts, vm: VmDir, say: Callable[[str], None]
) -> Iterator[Fds]:
    """QEMU's ends, while the daemons run. Raises `PlanRefused`, `QemuFailed`, `IsolationRefused`."""
    with ExitStack() as undo:
        ends = [undo.enter_context(_one(number, share, settings, qemu, vm, say)) for number, share in enumerate(shares)]
        yield tuple((descriptor, FIRST_SHARE_FD + number) for number, descriptor in enumerate(ends))


@contextmanager
def _one(
    number: int, share: Share, settings: IsolationSettings, qemu: QemuFacts, vm: VmDir, say: Callable[[str], None]
) -> Iterator[int]:
    home, words = VmDir(vm.path, f"share-{number}"), vm.file(f"share-{number}.log")
    home.create()
    wanted = share_confinement(settings._replace(user=_user(share, vm)), share, qemu)
    listening, connected = _pair(home.path)
    with connected, open(words, "ab", buffering=0) as log, jail_for(wanted, home) as jail:  # noqa: PTH123  pathlib costs start-up time
        with listening:
            argv = (*qemu.program(VIRTIOFSD_PATH), *_options(share, os.geteuid() if jail.uid is None else jail.uid))
            fds = ((listening.fileno(), _LISTENING),)
            try:
                child, steps = start_confined(jail, argv, dict(qemu.env), home, log, fds)
            except OSError as exc:
                raise QemuFailed(f"share {share.tag}: {argv[0]}: {exc.strerror}", hint=FIX) from None
        try:
            _refuse_root(share, steps)
            for line in statement(steps, f"share {share.tag}"):
                say(line)
            yield connected.fileno()
        except QemuFailed:
            if child.poll():
                raise _ended(share, words) from None
            raise
        finally:
            end(child)


def _ended(share: Share, log: str) -> QemuFailed:
    """QEMU only knows that nobody answers."""
    words = "; ".join(safe_text(line, 300) for line in last_lines(log, 3))
    return QemuFailed(f"share {share.tag}: virtiofsd ended: {words or 'it said nothing'}", hint=f"all it wrote: {log}")


def _pair(folder: str) -> tuple[socket.socket, socket.socket]:
    """A socket that listens, and the one connection that will ever be taken from it. Between the two it has a name in
    ``folder``, which nobody else can enter: to an abstract name, every user of this host could connect first.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    name, place = "listening", os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=place)
        listening.bind(f"/proc/self/fd/{place}/{name}")
        listening.listen(1)
        connected = connect(folder, name)
        os.unlink(name, dir_fd=place)
    except BaseException:
        listening.close()
        raise
    finally:
        os.close(place)
    return listening, connected


def _user(share: Share, vm: VmDir) -> str | int:
    """Who opens the files, where the launcher may choose."""
    if os.geteuid() != 0:
        return "auto"
    return os.stat(share.path).st_uid or allocate(vm)


def _refuse_root(share: Share, steps: Sequence[Step]) -> None:
    if os.geteuid() == 0 and not any(step.name == "own user" and step.enforced for step in steps):
        refused = "; ".join(f"{step.name}: {step.detail}" for step in steps if not step.enforced)
        raise IsolationRefused(f"share {share.tag}: its daemon would run as root: {refused}")


def _options(share: Share, uid: int) -> tuple[str, ...]:
    """Whoever asks in the guest, files are the daemon's user's; in the guest all of them are root's."""
    return (
        "--fd", str(_LISTENING), "--shared-dir", share.path, "--sandbox", "none", "--seccomp", "kill",
        "--inode-file-handles=never", "--rlimit-nofile", "0", "--log-level", "warn",
        *(("--readonly",) if share.readonly else ()),
        "--translate-uid", f"squash-guest:0:{uid}:{_EVERYBODY}", "--translate-uid", f"squash-host:0:0:{_EVERYBODY}",
        "--translate-gid", f"squash-guest:0:{uid}:{_EVERYBODY}", "--translate-gid", f"squash-host:0:0:{_EVERYBODY}",
    )  # fmt: skip
