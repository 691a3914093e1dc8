"""A cold move: what of a stopped VM goes to another host, and what must be there already. Pure.

    source        offer: name, VM file, sizes and digests, measurement      ──▶  destination
                  ◀──  want: the files it lacks            (the VM still runs)
                  those files                                                ──▶
                  ◀──  ready: it would measure the same and can run here
                  [stops the VM, marks it "moving"]
                  disks: size and digest of each                             ──▶
                  ◀──  want: the disks that are not there already
                  those disks                                                ──▶
                  ◀──  received: everything is on its disk, digests agree
                  [marks it "moved"; from now on it cannot start there]
                  commit                                                     ──▶  [is its launcher from now on]
                  ◀──  done, later result: how its launch went

Up to the commit the destination throws away what it got when anything fails; afterwards the source keeps its mark. So
at no time may both start it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping

from launcher.core.text import safe_text
from launcher.core.vm import VmConfig
from launcher.errors import PlanRefused
from policy.errors import MalformedInput
from policy.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA = "cvm.move/1"
FILE, DISK, HOSTS = "file", "disk", "host's"
"""Sent as it is; sent after the stop; the host's own (keys of servers and disks), never sent."""
MAX_SIZE = 1 << 50
_HEX = re.compile(r"[0-9a-f]{64}")
_MEASUREMENT = re.compile(r"[0-9a-f]{64,96}(?::(?:-|[0-9a-f]{96})){0,4}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,250}\.toml")
_PATHS = ("conf", "key_file", "password_file", "tls")


class MoveMalformed(MalformedInput):
    """The other side of a move does not speak its protocol."""

    code = "move.malformed"


class Named(NamedTuple):
    """A path as the VM file writes it, and what kind of file that is."""

    path: str
    kind: str


class Contents(NamedTuple):
    """``sha256`` in hexadecimal; empty for a disk whose VM still runs."""

    size: int
    sha256: str


class Offer(NamedTuple):
    """``vm_file``: the file's own name; ``measurement``: of the launch digest, or MRTD and RTMRs with ``:`` between
    them; ``None`` where nothing is measured.
    """

    vm_file: str
    toml: str
    was_up: bool
    measurement: str | None
    source: str
    files: Mapping[str, Contents]


def named_files(config: VmConfig) -> tuple[Named, ...]:
    """Every file of this host that ``config`` (paths as written) names, each once."""
    found = {item.path: item for item in _named(config)}
    return tuple(found.values())


def _named(config: VmConfig) -> Iterator[Named]:
    boot, snp = config.boot, config.snp
    firmware = None if boot.firmware == "auto" else boot.firmware
    ca = None if config.attestation is None else config.attestation.ca
    init_data = None if config.init_data is None else config.init_data.file
    for path in (firmware, boot.kernel, boot.initrd, ca, snp.id_block, snp.id_auth, init_data):
        if path is not None:
            yield Named(path, FILE)
    for disk in config.disks:
        if disk.key_file is not None:
            yield Named(disk.key_file, HOSTS)
        for backing in disk.copies:
            if backing.network is None:
                yield Named(backing.path, DISK)
                continue
            members = backing.network._asdict()
            yield from (Named(members[name], HOSTS) for name in _PATHS if members.get(name) is not None)


def refuse_unmovable(config: VmConfig) -> None:
    """Raise :class:`PlanRefused` for what ties a VM to its host."""
    if config.passthrough:
        raise PlanRefused(
            f"move: {len(config.passthrough)} PCI function(s) of this host are named in the VM file",
            code="move.passthrough",
            hint="take [[passthrough]] out, and put the other host's functions in there",
        )
    if config.shares:
        raise PlanRefused(
            f"move: {len(config.shares)} folder(s) of this host are named in the VM file",
            code="move.share",
            hint="take [[share]] out, and put the other host's folders in there",
        )
    if config.devices.tpm:
        raise PlanRefused(
            "move: what its TPM remembers stays on this host",
            code="move.tpm",
            hint="take devices.tpm out of the VM file",
        )
    for item in named_files(config):
        outside = ".." in item.path.split("/")
        if not item.path.startswith("/") and (outside or item.kind == HOSTS):
            why = "lies outside the VM file's folder" if outside else "is this host's own and not sent"
            raise PlanRefused(
                f"move: {item.path[:200]}: {why}",
                code="move.host-file",
                hint="name it by an absolute path that both hosts have",
            )


def refuse_unconfined(config: VmConfig) -> None:
    """For the destination: a file from another host must not decide that QEMU may touch this one, or whose files it
    may use. Raises :class:`PlanRefused`.
    """
    chosen = config.isolation
    if chosen.mode == "off" or chosen.user != "auto":
        raise PlanRefused(
            f'move: its VM file says [isolation] mode = "{chosen.mode}", user = "{chosen.user}": '
            "how QEMU is confined is for the host to say that it comes to",
            code="move.unconfined",
            hint="cvm receive --unconfined takes it as it is",
        )


def offer_document(offer: Offer) -> dict[str, object]:
    """As it travels."""
    files = {path: [item.size, item.sha256] for path, item in offer.files.items()}
    return {"schema": SCHEMA, **offer._asdict(), "files": files}


def parse_offer(document: Mapping[str, Any]) -> Offer:
    """Raises :class:`MoveMalformed`. What the VM file says is checked by who parses it."""
    want = {"schema": str, "vm_file": str, "toml": str, "was_up": bool, "source": str, "files": dict}
    if set(document) != {*want, "measurement"} or document.get("schema") != SCHEMA:
        raise MoveMalformed(f"move: the first message is no offer of {SCHEMA}")
    for name, kind in want.items():
        if type(document[name]) is not kind:
            raise MoveMalformed(f"move: offer: {name}: want {kind.__name__}")
    measured = document["measurement"]
    if not (measured is None or (isinstance(measured, str) and _MEASUREMENT.fullmatch(measured))):
        raise MoveMalformed("move: offer: measurement: want digests in hexadecimal")
    if not _NAME.fullmatch(document["vm_file"]):
        raise MoveMalformed(f"move: offer: vm_file: got {document['vm_file'][:80]!r}, want a name that ends in .toml")
    files = {path: parse_contents(value) for path, value in document["files"].items()}
    source = safe_text(document["source"], 200)
    return Offer(document["vm_file"], document["toml"], document["was_up"], measured, source, files)


def parse_contents(value: object) -> Contents:
    """``[size, sha256]``. Raises :class:`MoveMalformed`."""
    if not isinstance(value, list) or len(value) != 2:
        raise MoveMalformed("move: want [size, sha256] for a file")
    size, sha256 = value
    if type(size) is not int or not 0 <= size <= MAX_SIZE:
        raise MoveMalformed(f"move: size: got {str(size)[:40]}, want 0 to {MAX_SIZE}")
    if not isinstance(sha256, str) or not (sha256 == "" or _HEX.fullmatch(sha256)):
        raise MoveMalformed("move: sha256: want 64 hexadecimal digits, or nothing yet")
    return Contents(size, sha256)


def parse_earlier(document: object) -> dict[str, object]:
    """``lines`` and ``head`` of the ledger that stays behind. Raises :class:`MoveMalformed`."""
    lines, head = (document.get(name) for name in ("lines", "head")) if isinstance(document, dict) else (None, None)
    if type(lines) is not int or not 0 <= lines <= MAX_SIZE or not isinstance(head, str) or not _HEX.fullmatch(head):
        raise MoveMalformed("move: commit: want the ledger's number of lines and its last digest")
    return {"lines": lines, "head": head}


def placed(path: str, folder: str) -> str:
    """Where a file of the VM file lies when that lies in ``folder``; for paths :func:`refuse_unmovable` let through."""
    return posixpath.normpath(posixpath.join(folder, path))


def wanted(document: Mapping[str, Any], offered: Mapping[str, Contents]) -> list[str]:
    """The paths in a ``want`` message. Raises :class:`MoveMalformed` for one that was not offered."""
    paths = document.get("want")
    if set(document) != {"want"} or not isinstance(paths, list) or len(set(map(str, paths))) != len(paths):
        raise MoveMalformed("move: want a list of paths, each once")
    if not all(isinstance(path, str) and path in offered for path in paths):
        raise MoveMalformed("move: the destination wants a file that was not offered")
    return paths
