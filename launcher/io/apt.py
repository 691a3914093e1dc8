"""Debian packages into the cache, verified by apt, without touching the system's own apt state and without root.

apt runs with a configuration of its own: an empty package database, lists and archives below the cache. From the
host's configuration it takes the transport settings only (proxy, certificates, retries, validity checks). Signatures
are checked against Debian's archive keyring; each package's SHA-256 is compared with the signed index once more after
the download, so a damaged cache is noticed too.

Measured (2 cores): update of one suite 1.5–4 s, 75 packages (52 MB) 1 s, nothing to do 0.5 s.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from launcher.core.debian import Package, Suite, archive_file_name, parse_hashes, parse_simulation
from launcher.io.cachedir import exclusive
from launcher.io.mirrors import FetchFailed, no_apt, with_host_mirrors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

Progress = Callable[[str], None]

_KEYRINGS: Final = (
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
)
_HOST_SETTINGS = re.compile(r"^Acquire::(https?|Retries|ForceIPv[46]|Check-Valid-Until|Check-Date)\b")
_FRESH_SECONDS: Final = 24 * 3600


def keyring() -> Path:
    """Debian's archive keyring on this machine.

    Raises FetchFailed when the package debian-archive-keyring is not installed.
    """
    for name in _KEYRINGS:
        if Path(name).is_file():
            return Path(name)
    raise FetchFailed(
        f"Debian's archive keyring: looked for {' and '.join(_KEYRINGS)}, found neither",
        hint="install the package debian-archive-keyring",
    )


class AptFolder:
    """A private apt (lists, archives, configuration) for one suite below ``folder``."""

    def __init__(self, folder: Path, suite: Suite, progress: Progress) -> None:
        self._folder = folder
        self._suite = suite
        self._progress = progress

    def fetch(self, names: Sequence[str], *, refresh: bool = False) -> tuple[Package, ...]:
        """Download ``names`` and all they depend on (no recommendations); returns every package, sorted by name.

        ``refresh`` asks the mirror for new indices even when the last ones are less than a day old.
        Raises FetchFailed.
        """
        self._suite = with_host_mirrors(self._suite)
        with exclusive(self._folder / "lock"):
            self._configure()
            self._update(refresh)
            plan = parse_simulation(self._run("apt-get", "--simulate", "install", *names))
            if not plan:
                raise FetchFailed(f"apt: nothing to install for {' '.join(names)} from {self._suite.name}")
            self._progress(f"{self._suite.name}: {len(plan)} packages")
            self._run("apt-get", "--yes", "--download-only", "install", *names)
            hashes = parse_hashes(self._run("apt-cache", "show", *(f"{name}={version}" for name, version, _ in plan)))
            return tuple(self._verified(*entry, hashes) for entry in plan)

    def _configure(self) -> None:
        for name in ("lists/partial", "archives/partial", "empty"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").touch()
        sources = self._suite.sources(str(keyring()))
        if not (self._folder / "sources.list").is_file() or (self._folder / "sources.list").read_text() != sources:
            (self._folder / "stamp").unlink(missing_ok=True)
        (self._folder / "sources.list").write_text(sources)
        expired = 'Acquire::Check-Valid-Until "false";\n' if self._suite.allow_expired else ""
        (self._folder / "apt.conf").write_text(_configuration(self._folder) + _host_transport() + expired)

    def _update(self, refresh: bool) -> None:
        stamp = self._folder / "stamp"
        if not refresh and stamp.is_file() and time.time() - stamp.stat().st_mtime < _FRESH_SECONDS:
            return
        self._progress(f"{self._suite.name}: package index from {self._suite.mirror}")
        try:
            self._run("apt-get", "--error-on=any", "update")
        except FetchFailed as error:
            if refresh or not stamp.is_file():
                raise
            self._progress(f"{self._suite.name}: {error.message}; going on with the index of an earlier run")
        else:
            stamp.touch()

    def _verified(self, name: str, version: str, architecture: str, hashes: dict[tuple[str, str], str]) -> Package:
        path = self._folder / "archives" / archive_file_name(name, version, architecture)
        want = hashes.get((name, version))
        with path.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        if got != want:
            path.unlink()
            raise FetchFailed(
                f"{path.name}: SHA-256 must be {want}, got {got}",
                hint="the damaged file was removed; run the command again",
            )
        return Package(name, version, architecture, got, path)

    def _run(self, *argv: str) -> str:
        env = {
            **os.environ,
            "APT_CONFIG": str(self._folder / "apt.conf"),
            "LC_ALL": "C",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        try:
            done = subprocess.run(argv, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        except FileNotFoundError:
            raise no_apt(argv[0], self._suite) from None
        if done.returncode != 0:
            reason = [
                line for line in done.stderr.splitlines() if line.startswith(("E:", "W:"))
            ] or done.stderr.splitlines()
            said = " ".join(reason[:4])
            expired = "--allow-expired accepts an index past its date (a frozen mirror)" if "expired" in said else None
            raise FetchFailed(f"{' '.join(argv[:3])}: exit {done.returncode}: {said}", hint=expired)
        return done.stdout


def _configuration(folder: Path) -> str:
    """apt.conf(5) that keeps apt inside ``folder``."""
    settings = {
        "Dir::Etc::Main": "/dev/null",
        "Dir::Etc::Parts": f"{folder}/empty",
        "Dir::Etc::SourceList": f"{folder}/sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": f"{folder}/empty",
        "Dir::Etc::Trusted": "/dev/null",
        "Dir::Etc::TrustedParts": f"{folder}/empty",
        "Dir::State": str(folder),
        "Dir::State::Lists": f"{folder}/lists",
        "Dir::State::status": f"{folder}/status",
        "Dir::State::extended_states": f"{folder}/extended_states",
        "Dir::Cache": str(folder),
        "Dir::Cache::Archives": f"{folder}/archives",
        "Dir::Log": str(folder),
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Install-Recommends": "false",
        # The account _apt usually cannot read a checkout; the folder belongs to whoever runs this.
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::GzipIndexes": "true",
        # Our own lock file covers the whole folder.
        "Debug::NoLocking": "true",
    }
    return "".join(f'{key} "{value}";\n' for key, value in settings.items())


def _host_transport() -> str:
    """The host's proxy, TLS, retry and validity settings as apt.conf lines."""
    env = {**os.environ, "LC_ALL": "C"}
    env.pop("APT_CONFIG", None)
    try:
        done = subprocess.run(("apt-config", "dump"), env=env, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return "".join(f"{line}\n" for line in done.stdout.splitlines() if _HOST_SETTINGS.match(line))
