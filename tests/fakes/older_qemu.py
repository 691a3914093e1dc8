"""An older QEMU than the one in use: Debian 13's, unpacked below the cache (36 MB to fetch, 130 MB on disk).

``python -m tests.fakes.older_qemu`` fetches it; tests use it where it is.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from launcher.core.debian import Suite
from launcher.io.apt import AptFolder
from launcher.io.cachedir import cache_folder, exclusive, staged
from launcher.io.toolchain import BINARY_NAME, Toolchain, private_argv, private_env, version_of

SERIES = "10.0"
_SUITE = Suite("trixie")
_SHARE = "usr/share/ovmf"


def older_qemu() -> Toolchain | None:
    """The QEMU, if it was fetched; its firmware folder does not exist."""
    home = cache_folder() / f"qemu-{SERIES}"
    if not (home / "usr/bin" / BINARY_NAME).is_file():
        return None
    argv, env = private_argv(str(home)), private_env(str(home))
    return Toolchain(argv, env, version_of(argv, env), str(home / _SHARE), str(home / _SHARE), "cache")


def main() -> int:
    """Fetch it unless it is there."""
    home = cache_folder() / f"qemu-{SERIES}"
    with exclusive(home.with_name(f"qemu-{SERIES}.lock")):
        if older_qemu() is None:
            packages = AptFolder(cache_folder() / "apt-older", _SUITE, print).fetch(("qemu-system-x86",))
            with staged(home) as folder:
                for package in packages:
                    subprocess.run(("dpkg-deb", "--extract", package.path, folder), check=True)
                _drop_others(folder / "usr/bin")
    found = older_qemu()
    sys.stdout.write(f"QEMU {found.version if found else 'is not there'}\n")
    return 0 if found is not None and found.version.startswith(f"{SERIES}.") else 1


def _drop_others(binaries: Path) -> None:
    for path in binaries.iterdir():
        if path.name != BINARY_NAME:
            path.unlink()


if __name__ == "__main__":
    sys.exit(main())
