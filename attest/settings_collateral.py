"""``[collateral]`` of ``attest.toml``: where certificates, revocation lists and Intel's documents come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from attest.collateral.intel_wanted import Channel
from attest.collateral.limits import Tls
from attest.collateral.pcs_settings import PcsSettings
from attest.collateral.url import KDS_URL, base_url
from attest.settings_parts import number_of, path_of, text_of, url_of
from policy.table import Table


@dataclass(frozen=True, slots=True)
class CollateralSettings:
    """Where certificates and CRLs come from beside the evidence; an empty value asks nobody.

    ``folder`` is filled by people, ``cache`` by the program. ``max_crl_age`` bounds how long ago a list was last
    fetched, where its own next update is too far away for the operator's taste. ``pcs`` is how Intel is asked.
    ``renew``: a process of the service keeps the cache current, and requests ask only for what is missing or ended.
    """

    folder: Path | None = None
    cache: Path | None = None
    online: bool = False
    kds_url: str = KDS_URL
    max_crl_age: timedelta | None = None
    pcs: PcsSettings = field(default_factory=PcsSettings)
    renew: bool = False


def collateral_of(table: Table, folder: Path) -> CollateralSettings:
    """Decode the table."""
    online = bool(table.value("online", bool, False))
    cache = path_of(table, "cache", folder) if table.has("cache") else None
    if online and cache is None:
        table.problem("cache", "missing, want a path: what is fetched is kept there")
    renew = bool(table.value("renew", bool, online))
    if renew and not online:
        table.problem("renew", "true, but online is false: there is nobody to ask")
    hours = number_of(table, "max_crl_age_hours", 1, 1, 24 * 366) if table.has("max_crl_age_hours") else None
    return CollateralSettings(
        folder=path_of(table, "folder", folder) if table.has("folder") else None,
        cache=cache,
        online=online,
        kds_url=url_of(table, "kds_url", KDS_URL),
        max_crl_age=None if hours is None else timedelta(hours=hours),
        pcs=_pcs(table, folder),
        renew=renew,
    )


def _pcs(table: Table, folder: Path) -> PcsSettings:
    default = PcsSettings()
    texts = table.strings("intel_urls", default.urls)
    urls = []
    for text in texts:
        try:
            urls.append(base_url(text))
        except ValueError as exc:
            table.problem("intel_urls", str(exc))
    if not texts:
        table.problem("intel_urls", "want at least one; online = false asks nobody")
    channel = default.channel
    try:
        channel = Channel.parse(text_of(table, "intel_channel", channel.name))
    except ValueError as exc:
        table.problem("intel_channel", str(exc))
    return PcsSettings(
        urls=tuple(urls),
        root_crl_url=url_of(table, "intel_root_crl_url", default.root_crl_url),
        channel=channel,
        tls=Tls(ca=path_of(table, "intel_ca", folder)) if table.has("intel_ca") else default.tls,
    )
