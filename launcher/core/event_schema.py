"""The JSON Schema (2020-12) of one event, a line of ``cvm events --json``: what a program may rely on."""

from __future__ import annotations

from typing import Any

SOURCES = ("launcher", "operator", "qemu", "guest", "console")


def event_schema() -> dict[str, Any]:
    """Version 1."""
    text = {"type": "string"}
    members: dict[str, Any] = {
        "schema": {"const": "cvm.event/1"},
        "time": {"type": "string", "format": "date-time"},
        "vm": text,
        "source": {"enum": list(SOURCES), "description": "qemu, guest and console: caused by the guest; its own word"},
        "event": {"type": "string", "maxLength": 80},
        "seconds": {"type": ["number", "null"], "description": "since QEMU was started"},
        "detail": {"type": "object", "description": "left_out alone: what was longer than 4096 characters"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:cvm:event:1",
        "title": "cvm event",
        "type": "object",
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }
