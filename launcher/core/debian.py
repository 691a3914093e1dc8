"""Words for Debian archives: a suite, where it is mirrored, and a package file as apt verified it.

The download (`launcher.io.apt`) and the image builder (`launcher.image`) share these values and nothing else, so the
builder can be given packages from anywhere and its result depends on their bytes alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

HOST_MIRROR: Final = "host"
"""Stands for the mirror that this machine's own apt uses. Plain HTTP is fine: every index and package is checked
against signed hashes.
"""

_INSTALL = re.compile(
    r"^Inst (?P<name>[a-z0-9][a-z0-9+.-]*) (?:\[[^]]*\] )?\((?P<version>[^ ()]+) [^()]*\[(?P<arch>[a-z0-9]+)\]\)"
)


@dataclass(frozen=True, slots=True)
class Suite:
    """One Debian release as apt is to see it.

    ``security_mirror`` adds the release's security and updates pockets. ``allow_expired`` accepts an index that is
    past its own Valid-Until date (a frozen mirror, a snapshot); signatures are checked all the same.
    """

    name: str
    mirror: str = HOST_MIRROR
    security_mirror: str | None = None
    allow_expired: bool = False

    def sources(self, keyring: str) -> str:
        """The text of a ``sources.list`` (one-line format, sources.list(5))."""
        options = f"[arch=amd64 signed-by={keyring}]"
        lines = [f"deb {options} {self.mirror} {self.name} main"]
        if self.security_mirror is not None:
            lines.append(f"deb {options} {self.mirror} {self.name}-updates main")
            lines.append(f"deb {options} {self.security_mirror} {self.name}-security main")
        return "\n".join(lines) + "\n"


def debian_mirrors(targets: str) -> tuple[str | None, str | None]:
    """The Debian archive and its security archive among the addresses in ``targets``, one per line.

    Told apart by the last part of the address (``…/debian``, ``…/debian-security``, or the lists of apt's
    ``mirror+file:`` method that cloud images use); other distributions' archives are passed over.
    """
    main = security = None
    for line in targets.splitlines():
        address = line.strip().rstrip("/")
        name = address.rsplit("/", 1)[-1].removesuffix(".list")
        if name == "debian":
            main = main or address
        elif name == "debian-security":
            security = security or address
    return main, security


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """A ``.deb`` on disk. ``sha256`` is lower-case hex and was compared with the hash in the signed package index."""

    name: str
    version: str
    architecture: str
    sha256: str
    path: Path


def archive_file_name(name: str, version: str, architecture: str) -> str:
    """The name under which apt keeps a package in its archive folder (the epoch's colon becomes ``%3a``)."""
    return f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"


def parse_simulation(text: str) -> tuple[tuple[str, str, str], ...]:
    """``(name, version, architecture)`` of every package that ``apt-get --simulate install`` would install, sorted."""
    found = (_INSTALL.match(line) for line in text.splitlines())
    return tuple(sorted((m["name"], m["version"], m["arch"]) for m in found if m is not None))


def parse_hashes(text: str) -> dict[tuple[str, str], str]:
    """``(name, version)`` -> SHA-256 from the output of ``apt-cache show`` (RFC 822 paragraphs)."""
    hashes: dict[tuple[str, str], str] = {}
    for paragraph in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if re.match(r"[A-Z][A-Za-z0-9-]*: ", line))
        if "Package" in fields and "Version" in fields and "SHA256" in fields:
            hashes[fields["Package"], fields["Version"]] = fields["SHA256"]
    return hashes
