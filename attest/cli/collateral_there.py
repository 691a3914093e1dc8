"""The cache of a running service, with ``--service``: listed, filled by name, given a bundle."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from attest.cli.remote import Request, answer
from attest.collateral.errors import CollateralGone, CollateralNotFound, CollateralUnavailable
from attest.collateral.intel_wanted import IntelWanted
from attest.collateral.wanted import Wanted

_COLLATERAL = "/cvm/v0/collateral"
_UNKNOWN = (CollateralNotFound.code, CollateralGone.code)


def status_there(args: Namespace) -> dict[str, Any]:
    """What is cached there."""
    return answer(args, Request("GET", _COLLATERAL))


def fetch_there(
    args: Namespace, plan: Sequence[Wanted | IntelWanted]
) -> tuple[list[dict[str, Any]], CollateralUnavailable | None]:
    """Have these things fetched; what became of them, and the first failure."""
    names = "\n".join(wanted.name for wanted in plan).encode()
    query = {"refresh": "1"} if args.refresh else {}
    items: list[dict[str, Any]] = answer(args, Request("POST", f"{_COLLATERAL}/fetch", query, names))["items"]
    failures = [_failure(item) for item in items if item["code"] is not None]
    return items, failures[0] if failures else None


def load_there(args: Namespace, data: bytes) -> list[dict[str, str]]:
    """Import a bundle, or a file with certificates, documents or lists."""
    items: list[dict[str, str]] = answer(args, Request("POST", f"{_COLLATERAL}/import", {}, data))["items"]
    return items


def _failure(item: dict[str, Any]) -> CollateralUnavailable:
    cls = CollateralNotFound if item["code"] in _UNKNOWN else CollateralUnavailable
    return cls(item["message"], code=item["code"])
