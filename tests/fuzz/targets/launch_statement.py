"""Fuzz target: what a host says about a launch parses, complete and in form, or raises our error."""

from __future__ import annotations

from datetime import UTC

from attest.audit.canonical import canonical
from attest.broker.launch_statement import parse_statement
from policy.errors import MalformedInput


def one(data: bytes) -> None:
    """What is taken can be written into a record, and its time compared with ours."""
    try:
        found = parse_statement(data)
    except MalformedInput:
        return
    assert found.time.tzinfo is UTC
    assert found.vm
    canonical(dict(found.members))
