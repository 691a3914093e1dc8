"""``ip`` and ``tc``: the programs of iproute2, and what they refuse."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from policy.errors import CvmError

_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"


class NetworkRefused(CvmError):
    """This host, or this user on it, cannot give the VM the network it asks for."""

    code = "network.refused"
    exit_status = 4


def run_ip(*words: str) -> None:
    """``ip`` with these words. Raises :class:`NetworkRefused` with what it said."""
    run_tool("ip", words)


def run_tool(tool: str, words: Sequence[str]) -> str:
    """A program of iproute2; what it wrote."""
    path = shutil.which(tool, path=_PATH)
    if path is None:
        raise NetworkRefused(f"net: no program {tool} on this host", hint="apt install iproute2")
    done = subprocess.run([path, *words], capture_output=True, check=False, timeout=20, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())[:200]
        raise NetworkRefused(f"net: {tool} {' '.join(words)}: {said or done.returncode}")
    return done.stdout.decode(errors="replace")
