"""What the dashboard's process holds, and what one page gets of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Lock
from typing import Any

from sqlalchemy import Connection

from attest.broker.anomalies import Scan
from attest.broker.collateral import ServiceCollateral
from attest.settings_collateral import CollateralSettings
from attest.store.engine import Database

_REMEMBERED = 512


@dataclass(frozen=True, slots=True)
class House:
    """``remembered``: what was worked out about records, which never change; ``scan`` what is of note in those that
    were looked at, by one thread at a time (``looking``).
    """

    database: Database
    collateral: ServiceCollateral
    remembered: OrderedDict[object, Any] = field(default_factory=OrderedDict)
    scan: Scan = field(default_factory=Scan)
    looking: Lock = field(default_factory=Lock)

    @classmethod
    def of(cls, database: Database, collateral: CollateralSettings) -> House:
        """From settings; whatever they say, nothing is fetched here."""
        return cls(database, ServiceCollateral.of(replace(collateral, online=False)))

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        """``make()``, or what it gave before."""
        try:
            return self.remembered[key]
        except KeyError:
            found = self.remembered[key] = make()
        if len(self.remembered) > _REMEMBERED:
            self.remembered.popitem(last=False)
        return found


@dataclass(frozen=True, slots=True)
class Ask:
    """One request as a page sees it: a snapshot of the database, the time, the query, the path's arguments."""

    house: House
    tx: Connection
    now: datetime
    query: dict[str, str]
    arguments: dict[str, Any]
