"""Which cache and which service the options mean, and whom they trust."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from attest.cli.evidence_file import read_file
from attest.collateral.cache import Cache
from attest.collateral.clock import Clock
from attest.collateral.kds_settings import KdsSettings
from attest.collateral.source import CollateralSource
from attest.collateral.url import base_url
from attest.endorsement.anchors import TrustAnchors
from attest.evidence.amd_certificate import Role
from attest.evidence.collateral_file import read_collateral_file
from attest.evidence.errors import EvidenceMalformed
from attest.settings import CollateralSettings, load_settings
from policy.errors import ConfigInvalid

_SETTINGS = Path("attest.toml")


def source_of(args: Namespace, *, online: bool) -> CollateralSource:
    """The cache of ``--cache``, else of the settings (``--config``, else ``attest.toml`` here), else the user's own."""
    settings = _settings(args)
    cache = args.cache or settings.cache or user_cache()
    try:
        url = base_url(getattr(args, "kds_url", None) or settings.kds_url)
    except ValueError as exc:
        raise ConfigInvalid("--kds-url", (str(exc),)) from None
    clock = Clock()
    return CollateralSource(Cache(cache, clock), KdsSettings(url=url) if online else None, clock)


def user_cache() -> Path:
    """``$XDG_CACHE_HOME/attest/collateral`` (XDG Base Directory Specification)."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(named) if named.startswith("/") else Path.home() / ".cache"
    return base / "attest" / "collateral"


def _settings(args: Namespace) -> CollateralSettings:
    """``attest evidence`` has no settings, so a file that happens to lie here changes nothing there."""
    if args.cache is not None or not hasattr(args, "config"):
        return CollateralSettings()
    if args.config is not None or _SETTINGS.is_file():
        return load_settings(args.config or _SETTINGS).collateral
    return CollateralSettings()


def anchors_with(roots: Sequence[Path]) -> TrustAnchors:
    """AMD's roots and those of the files named by ``--root``."""
    anchors = TrustAnchors.amd()
    for path in roots:
        found = read_collateral_file(read_file(path))
        certificates = [certificate for certificate in found.certificates if certificate.role is Role.ARK]
        if not certificates:
            raise EvidenceMalformed(f"root {path}: " + (found.damaged[0].message if found.damaged else "holds no ARK"))
        for root in certificates:
            anchors = anchors.with_test_root(root.der)
    return anchors
