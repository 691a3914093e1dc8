"""Writes the feature files under ``launcher/data/qemu``: what one QEMU of each series can do.

    python -m tools.qemu_features FOLDER "Debian forky"     asks the QEMU whose packages are unpacked in FOLDER
    python -m tools.qemu_features --documented 9.1          from the series QEMU's documents name with each feature

Unpack with ``dpkg-deb --extract``: qemu-system-x86 and all it depends on, as `cvm image toolchain` does. A series of
which no binary can be had is written from the documents, without what Debian's builds leave out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from launcher.core.qemu_features import FEATURES, IGVM, Capabilities
from launcher.io.qemu_file import to_document
from launcher.io.qemu_probe import probe_capabilities
from launcher.io.toolchain import Toolchain, private_argv, private_env

FOLDER = Path(__file__).parents[1] / "launcher" / "data" / "qemu"
_LEFT_OUT = frozenset({IGVM})


def documented(series: tuple[int, ...]) -> Capabilities:
    """What QEMU's documents say of ``series``, such as (9, 1)."""
    features = frozenset(name for name, since in FEATURES.items() if since is not None and since <= series)
    text = f"{series[0]}.{series[1]}"
    return Capabilities(series, f"pc-q35-{text}", features - _LEFT_OUT, f"QEMU's documents, for {text}")


def asked(folder: str, origin: str) -> Capabilities:
    """What the QEMU in ``folder`` says; its version is cut to the series."""
    home = str(Path(folder).resolve())
    known = probe_capabilities(Toolchain(private_argv(home), private_env(home), "", "", "", "cache"))
    return known._replace(version=known.version[:2], source=f"{origin}, {known.source}")


def write(known: Capabilities) -> Path:
    """The file of ``known``."""
    path = FOLDER / f"{known.version_text}.json"
    path.write_text(json.dumps(to_document(known), indent=1) + "\n")
    return path


def main(words: Sequence[str]) -> int:
    """Exit status."""
    if len(words) != 2:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    if words[0] == "--documented":
        major, _, minor = words[1].partition(".")
        known = documented((int(major), int(minor)))
    else:
        known = asked(*words)
    sys.stdout.write(f"{write(known)}: {len(known.features)} features\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
