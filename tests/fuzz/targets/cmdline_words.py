"""Fuzz target: a kernel command line gives orders or our error; what is ordered stands in the line."""

from __future__ import annotations

from attest.attester.cmdline import parse_orders
from policy.errors import CvmError


def one(data: bytes) -> None:
    """Feed one input."""
    line = data.decode("ascii", "replace")
    try:
        orders = parse_orders(line)
    except CvmError:
        return
    if orders.emulated and "cvm.evidence=emulated" not in line:
        raise RuntimeError("the emulated chip was ordered by no word")
    if orders.service is not None and "https://" not in line:
        raise RuntimeError("a service without TLS was accepted")
