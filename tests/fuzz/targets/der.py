"""Fuzz target: DER elements are read, or refused; what was read is all of the input."""

from __future__ import annotations

from ovmf.der import elements, fields, first
from ovmf.errors import PeMalformed


def one(data: bytes) -> None:
    """Feed one input."""
    try:
        found = elements(data)
        if b"".join(element.whole for element in found) != data:
            raise AssertionError("elements do not make up the input")
        for element in found:
            fields(element, element.tag, 0, "input")
    except PeMalformed:
        pass
    try:
        first(data, "input")
    except PeMalformed:
        return
