"""The process of ``attest serve`` that keeps the collateral cache current."""

from __future__ import annotations

import signal

from attest.broker.renewing import watched
from attest.broker.service import Service
from attest.collateral.renewal import Renewer
from attest.web.metrics import Metrics


def run_renewer(service: Service, metrics: Metrics) -> None:
    """Until SIGTERM; call it in a process of its own, of a service whose settings say ``renew``.

    It may end at any moment: what it writes is written whole, and its lock goes with it. Ctrl-C reaches the parent,
    which sends SIGTERM.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = service.collateral.renewed
    if folder is None:
        raise TypeError("the settings do not say renew")
    renewer = Renewer(folder, service.collateral.clock, metrics.renewal)
    renewer.run(lambda: watched(service.collateral, service.rules.current().document))
