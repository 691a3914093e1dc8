"""What ``attest expiry`` looks at, and how it shows it."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from attest.broker.appraise import anchors_of
from attest.broker.collateral import ServiceCollateral
from attest.broker.expiry import Expiries, Expiring, cached, expiring_json, ordered
from attest.broker.opening import open_database, signers_of
from attest.broker.present_tdx import intel_anchors_of
from attest.broker.rules import Rules, RulesInForce
from attest.broker.watched import Watched
from attest.cli.common import print_json, print_table, read_file, settings_of
from attest.cli.remote import Request, answer
from attest.collateral.bundle import Intel, import_bundle
from attest.evidence.bundle import MAX_BUNDLE
from attest.settings_collateral import CollateralSettings
from policy.errors import ConfigInvalid

_WORDS = {None: "", 0: "ENDED", 1: "a day left", 7: "within 7 days", 30: "within 30 days"}


def items_of(args: Namespace, now: datetime) -> tuple[Expiring, ...]:
    """Everything of the service of the settings and of the bundles; no key of the service is read, nothing fetched."""
    settings = settings_of(args)
    database = open_database(settings)
    rules = RulesInForce(database, signers_of(settings))
    collateral = ServiceCollateral.of(settings.collateral).offline()
    found = list(Expiries(database, rules, collateral, Watched.of(settings)).at(now))
    for path in args.bundles:
        found += _of_bundle(path, settings.collateral.folder, rules.current(), now)
    return ordered(found)


def rows_of(args: Namespace, now: datetime) -> list[dict[str, Any]]:
    """The same as JSON values, or what a service says. Raises ConfigInvalid."""
    if args.service is None:
        return [expiring_json(item, now) for item in items_of(args, now)]
    if args.bundles:
        raise ConfigInvalid("BUNDLE", ("bundles are looked into here, without --service",))
    found: list[dict[str, Any]] = answer(args, Request("GET", "/cvm/v0/expiry"))["items"]
    return found


def print_rows(args: Namespace, rows: Sequence[dict[str, Any]]) -> None:
    """A table, or one JSON object."""
    if args.json:
        print_json({"schema": "attest.expiry/1", "items": rows})
        return
    cells = [
        (row["expires"] or "?", _days(row["days_left"]), row["kind"], row["name"], row["problem"] or _WORDS[row["due"]])
        for row in rows
    ]
    print_table([("ENDS", "DAYS", "KIND", "NAME", ""), *cells])


def _days(days: object) -> str:
    return "-" if days is None else str(days)


def _of_bundle(path: Path, own: Path | None, rules: Rules, now: datetime) -> tuple[Expiring, ...]:
    """The ends of a bundle's items; test roots are in the folder ``own``. Raises NotFound, BundleMalformed,
    BundleRefused.
    """
    data = read_file(path, "bundle", MAX_BUNDLE)
    with tempfile.TemporaryDirectory(prefix="attest-bundle-") as folder:
        collateral = ServiceCollateral.of(CollateralSettings(folder=own, cache=Path(folder)))
        if collateral.source is None or collateral.intel.source is None:
            raise TypeError("a cache without sources")
        intel = Intel(collateral.intel.source, intel_anchors_of(rules.document))
        import_bundle(collateral.source, data, anchors_of(rules.document, collateral.folder.current()), now, intel)
        return tuple(replace(item, name=f"{item.name} in {path.name}") for item in cached(collateral, rules, now))
