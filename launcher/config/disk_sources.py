"""``[disk.nbd]``, ``[disk.rbd]``, ``[disk.iscsi]``, ``[disk.nfs]``: disks behind a network, one function each."""

from __future__ import annotations

from launcher.config.paths import optional_path
from launcher.core.storage import Endpoint, IscsiSource, NbdSource, Network, NfsSource, RbdSource
from policy.late import fullmatch
from policy.table import Table

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_IQN = r"(?:iqn|eui|naa)\.[A-Za-z0-9.:_-]{1,220}"
_MAX_TEXT = 1024


def network(table: Table) -> Network | None:
    """The one network source a disk (or a copy) has; a second one is a problem."""
    found: list[tuple[str, Network]] = []
    for kind, decode in (("nbd", _nbd), ("rbd", _rbd), ("iscsi", _iscsi), ("nfs", _nfs)):
        inner = table.table(kind, required=False)
        if inner is not None:
            found.append((kind, decode(inner)))
            inner.finish()
    if len(found) > 1:
        table.problem(found[1][0], f"and {found[0][0]}: a disk has one source")
    return found[0][1] if found else None


def _nbd(table: Table) -> NbdSource:
    text = table.value("server", str, want='"tcp:HOST:PORT" or "unix:/PATH"') or "tcp:x:1"
    server = endpoint(text)
    if server is None:
        table.problem("server", f'got {text[:80]!r}, want "tcp:HOST:PORT" or "unix:/PATH"')
    tls = optional_path(table, "tls")
    name = _text(table, "tls_name", None)
    if server is not None and server.path and tls is not None and name is None:
        table.problem("tls_name", "missing: a unix socket has no host name to hold the certificate against")
    if name is not None and tls is None:
        table.problem("tls_name", "needs tls, the folder of the certificates")
    return NbdSource(server or Endpoint(), _text(table, "export", "") or "", tls, name)


def _rbd(table: Table) -> RbdSource:
    monitors = []
    for text in table.strings("monitors", ()):
        found = endpoint(f"tcp:{text}")
        if found is None:
            table.problem("monitors", f'got {text[:80]!r}, want HOST:PORT such as "10.0.0.1:6789"')
        else:
            monitors.append(found)
    conf, key_file = optional_path(table, "conf"), optional_path(table, "key_file")
    if conf is None and not (monitors and key_file):
        table.problem("conf", "missing: want conf (a ceph.conf), or monitors and key_file")
    return RbdSource(
        pool=_word(table, "pool", None),
        image=_word(table, "image", None),
        namespace=_word(table, "namespace", ""),
        snapshot=_word(table, "snapshot", ""),
        user=_word(table, "user", "admin"),
        conf=conf,
        monitors=tuple(monitors),
        key_file=key_file,
    )


def _iscsi(table: Table) -> IscsiSource:
    text = table.value("portal", str, want='"HOST:PORT"') or "x:1"
    portal = endpoint(f"tcp:{text}")
    if portal is None:
        table.problem("portal", f'got {text[:80]!r}, want HOST:PORT such as "10.0.0.1:3260"')
    target, initiator = _iqn(table, "target"), _iqn(table, "initiator") if table.has("initiator") else None
    lun = table.value("lun", int, 0) or 0
    if not 0 <= lun < 16384:
        table.problem("lun", f"got {lun}, want 0 to 16383")
    user, password = _text(table, "user", None), optional_path(table, "password_file")
    if (user is None) != (password is None):
        table.problem("password_file" if password is None else "user", "user and password_file come together")
    return IscsiSource(portal or Endpoint(), target, lun, initiator, user, password)


def _nfs(table: Table) -> NfsSource:
    host = table.value("host", str) or "x"
    if not fullmatch(_HOST, host):
        table.problem("host", f"got {host[:80]!r}, want a host name or an address")
    file = _text(table, "file", None, required=True) or "/x"
    if not file.startswith("/") or "//" in file or "/../" in f"{file}/" or file.endswith("/"):
        table.problem("file", f"got {file[:80]!r}, want the absolute path of a file on the server, without '..'")
    return NfsSource(host.strip("[]"), file, _id(table, "uid"), _id(table, "gid"))


def endpoint(text: str) -> Endpoint | None:
    """``unix:/path`` or ``tcp:host:port`` (an IPv6 address in brackets); ``None`` for anything else."""
    kind, _, rest = text.partition(":")
    if kind == "unix":
        fits = rest.startswith("/") and "\0" not in rest and len(rest.encode("utf-8", "surrogatepass")) <= 107
        return Endpoint(path=rest) if fits else None
    host, _, port = rest.rpartition(":")
    if kind != "tcp" or not fullmatch(_HOST, host) or not (port.isascii() and port.isdigit() and len(port) < 6):
        return None
    return Endpoint(host=host.strip("[]"), port=int(port)) if 0 < int(port) < 65536 else None


def _iqn(table: Table, key: str) -> str:
    text = table.value(key, str, want="an iSCSI name such as iqn.2026-01.example:web") or "iqn.x"
    if not fullmatch(_IQN, text):
        table.problem(key, f"got {text[:80]!r}, want an iSCSI name such as iqn.2026-01.example:web")
    return text


def _word(table: Table, key: str, default: str | None) -> str:
    text = table.value(key, str, default)
    if text and not fullmatch(_NAME, text):
        table.problem(key, f"got {text[:80]!r}, want letters, digits, '.', '_' and '-'")
    return text or ""


def _text(table: Table, key: str, default: str | None, *, required: bool = False) -> str | None:
    """Printable text; absent keys without a default are ``None``."""
    if default is None and not required and not table.has(key):
        return None
    text = table.value(key, str, default)
    if text is not None and (not text.isprintable() or len(text) > _MAX_TEXT):
        table.problem(key, f"got {text[:60]!r}, want at most {_MAX_TEXT} printable characters")
    return text


def _id(table: Table, key: str) -> int | None:
    if not table.has(key):
        return None
    value = table.value(key, int) or 0
    if not 0 <= value < 1 << 32:
        table.problem(key, f"got {value}, want a number of a user or group")
    return value
