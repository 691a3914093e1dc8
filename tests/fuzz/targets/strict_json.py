"""Fuzz target: strict JSON is read as the standard library reads it, or refused."""

from __future__ import annotations

import json

from policy.errors import CvmError
from policy.strictjson import strict_json


def one(data: bytes) -> None:
    """Feed one input; what is accepted must mean the same to a lenient reader."""
    try:
        value = strict_json(data, "fuzz")
    except CvmError:
        return
    if json.loads(data) != value:
        raise RuntimeError("two readers disagree")
