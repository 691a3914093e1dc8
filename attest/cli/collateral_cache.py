"""Which cache and which service the options mean, and whom they trust."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from attest.cli.evidence_file import read_file
from attest.collateral.cache import Cache
from attest.collateral.clock import Clock
from attest.collateral.intel_source import PcsSource
from attest.collateral.intel_wanted import Channel
from attest.collateral.kds_settings import KdsSettings
from attest.collateral.limits import Tls
from attest.collateral.pcs_settings import PcsSettings
from attest.collateral.source import CollateralSource
from attest.collateral.url import PCS_URL, base_url
from attest.endorsement.anchors import TrustAnchors
from attest.evidence.amd_certificate import Role
from attest.evidence.collateral_file import read_collateral_file
from attest.evidence.errors import EvidenceMalformed
from attest.settings import load_settings
from attest.settings_collateral import CollateralSettings
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


def pcs_source_of(args: Namespace, *, online: bool) -> PcsSource:
    """The same cache for Intel's things, and the services the options or settings name."""
    settings = _settings(args)
    pcs = _pcs(args, settings.pcs)
    clock = Clock()
    cache = Cache(args.cache or settings.cache or user_cache(), clock)
    return PcsSource(cache, pcs if online else None, clock, pcs.channel)


def _pcs(args: Namespace, settings: PcsSettings) -> PcsSettings:
    """``settings`` where ``--intel-url``, ``--intel-ca`` and ``--update`` do not say otherwise.

    Whoever names services on the command line means those: the root's list is then asked of them alone, unless Intel's
    own service is among them.
    """
    urls, ca, update = (getattr(args, name, None) for name in ("intel_url", "intel_ca", "update"))
    pcs = settings
    try:
        if urls:
            named = tuple(base_url(url) for url in urls)
            pcs = replace(pcs, urls=named, root_crl_url=pcs.root_crl_url if PCS_URL in named else "")
        if update is not None:
            pcs = replace(pcs, channel=Channel.parse(update))
    except ValueError as exc:
        raise ConfigInvalid("--intel-url, --update", (str(exc),)) from None
    return pcs if ca is None else replace(pcs, tls=Tls(ca=ca))


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
