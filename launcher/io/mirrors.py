"""Which Debian mirrors this machine uses: its own apt is asked, so no server is named here."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace

from launcher.core.debian import HOST_MIRROR, Suite, debian_mirrors
from policy.errors import CvmError


class FetchFailed(CvmError):
    """A download did not work: no apt, no mirror, no network, or an archive whose signature or hash does not fit."""

    code = "fetch.unavailable"


def no_apt(program: str, suite: Suite) -> FetchFailed:
    """The error for a machine on which apt's ``program`` is missing; the caller raises it."""
    return FetchFailed(
        f"{program} is not on this machine: packages of {suite.name} cannot be fetched",
        hint="use a Debian or Ubuntu host, or install QEMU 10.1 or newer and its firmware by hand",
    )


def with_host_mirrors(suite: Suite) -> Suite:
    """``suite`` with every mirror that is to be the host's replaced by its address.

    A host without a security mirror gets none. Raises :class:`FetchFailed` when a mirror is needed and unknown.
    """
    if HOST_MIRROR not in (suite.mirror, suite.security_mirror):
        return suite
    main, security = debian_mirrors(_targets(suite))
    mirror = main if suite.mirror == HOST_MIRROR else suite.mirror
    if mirror is None:
        raise FetchFailed(
            f"{suite.name}: this machine's apt names no Debian mirror",
            hint="name one with --mirror URL (and --security-mirror URL)",
        )
    return replace(
        suite,
        mirror=mirror,
        security_mirror=security if suite.security_mirror == HOST_MIRROR else suite.security_mirror,
    )


def _targets(suite: Suite) -> str:
    """One line per index of the host's apt: the address of its archive."""
    environment = {**os.environ, "LC_ALL": "C"}
    environment.pop("APT_CONFIG", None)
    argv = ("apt-get", "indextargets", "--format", "$(SITE)", "Identifier: Packages")
    try:
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise no_apt(argv[0], suite) from None
    return done.stdout if done.returncode == 0 else ""
