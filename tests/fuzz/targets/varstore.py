"""Fuzz target: a variable store parses, or is refused; likewise an SMBIOS table."""

from __future__ import annotations

from ovmf.errors import SmbiosMalformed, VariablesMalformed
from ovmf.smbios import measured_digest, parse_structures
from ovmf.variables import parse_variables


def one(data: bytes) -> None:
    """Feed one input."""
    try:
        parse_variables(data)
    except VariablesMalformed:
        pass
    try:
        measured_digest(parse_structures(data))
    except SmbiosMalformed:
        return
