"""The rollback guard: the highest number and the latest issue ever seen of a thing that must never go back.

A cache of Intel's service cannot forge an answer, but it can serve one of last month, which is still current and calls
an attacked platform up to date. So each thing has a small file, by its name and the root that signed it: other roots
are other worlds with numbers of their own. It holds what was verified and kept, and outlives the cached thing itself.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from attest.collateral.files import read_bounded, replace
from policy.errors import MalformedInput
from policy.strictjson import strict_json

SCHEMA = "attest.collateral.seen/1"
_MAX_BYTES = 1024


class Mark(NamedTuple):
    """Evaluation data number or CRL number, and the time of issue."""

    number: int
    issued: datetime

    def __str__(self) -> str:
        return f"number {self.number} of {self.issued:%Y-%m-%dT%H:%M:%SZ}"

    def older_than(self, other: Mark) -> bool:
        """In either part: a higher number with an earlier date is no answer of a vendor's."""
        return self.number < other.number or self.issued < other.issued


class Seen:
    """The files below ``seen/`` in a cache folder. One that makes no sense counts as absent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "seen"

    def path(self, name: str, root: str) -> Path:
        """The file of a thing under a root (``intel``, ``test:…``)."""
        return self._folder / f"{name}.{root.replace(':', '-')}"

    def highest(self, name: str, root: str) -> Mark | None:
        """What was seen; ``None`` for nothing."""
        data = read_bounded(self.path(name, root), _MAX_BYTES)
        try:
            value = strict_json(data, "seen", max_bytes=_MAX_BYTES)
            issued = datetime.fromisoformat(value["issued"])
            if value["schema"] != SCHEMA or type(value["number"]) is not int or issued.tzinfo is None:
                return None
        except (MalformedInput, KeyError, TypeError, ValueError):
            return None
        return Mark(value["number"], issued)

    def remember(self, name: str, root: str, mark: Mark) -> None:
        """Raise what was seen to ``mark``. Raises CacheUnusable."""
        known = self.highest(name, root)
        if known is not None and (mark == known or mark.older_than(known)):
            return
        value = {"schema": SCHEMA, "number": mark.number, "issued": mark.issued.astimezone(UTC).isoformat()}
        replace(self.path(name, root), json.dumps(value).encode() + b"\n")
