"""What ``attest evidence verify --online`` fetches for quotes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from datetime import datetime

from attest.cli.collateral_cache import pcs_source_of
from attest.collateral.clock import Budget
from attest.collateral.intel_supply import fetch_for_quote
from attest.endorsement.intel import IntelAnchors
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.quote import Quote

_WAIT_SECONDS = 60.0


def fetch_for_quotes(
    args: Namespace, anchors: IntelAnchors, today: datetime, warn: Callable[[str], None]
) -> Callable[[Quote, IntelCollateral], IntelCollateral]:
    """For ``attest evidence verify --online``. The same things give the same object: the verifier remembers by it.

    What it returns raises the reason where no TCB info is at hand for a quote at all; other reasons go to ``warn``.
    """
    source = pcs_source_of(args, online=True)
    joined: dict[tuple[tuple[bytes, ...], ...], IntelCollateral] = {}

    def fetch(quote: Quote, have: IntelCollateral) -> IntelCollateral:
        supplied = fetch_for_quote(quote, source, anchors, today, Budget(source.clock, _WAIT_SECONDS), have)
        key = tuple(item.parts for item in supplied.items)
        pool = joined.get(key)
        if pool is None:
            pool = joined[key] = have + supplied.collateral
        if supplied.problems and not pool.tcb_infos:
            raise supplied.problems[0]
        for problem in supplied.problems:
            warn(problem.message)
        return pool

    return fetch
