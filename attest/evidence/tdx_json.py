"""The ``tdx`` evidence of the Confidential Containers KBS protocol: a quote and the log of what the TD measured.

    {"quote": "<base64>", "cc_eventlog": "<base64>" or null}

``cc_eventlog`` is the data of the ACPI table CCEL as the guest found it, runtime events of its agent appended. Older
agents sent these apart, as the text ``aa_eventlog``. Members this release does not know are ignored: nothing is read
from them. Source: Trustee, ``tdx`` verifier evidence; Confidential Containers guest-components, TDX attester.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from attest.evidence.errors import EvidenceMalformed
from attest.evidence.quote import MAX_QUOTE, Quote, parse_quote

MAX_EVENT_LOG = 1 << 20


class TdxJson(NamedTuple):
    """A quote, the event log as sent (``None`` where none was) and the older agents' own log, all unverified."""

    quote: Quote
    event_log: bytes | None
    agent_log: str | None


def decode_tdx_json(value: object) -> TdxJson:
    """From parsed JSON; raises :class:`EvidenceMalformed`, and what :func:`parse_quote` raises."""
    if not isinstance(value, dict):
        raise EvidenceMalformed(f"tdx evidence: got {type(value).__name__}, want an object")
    agent_log = value.get("aa_eventlog")
    if agent_log is not None and not isinstance(agent_log, str):
        raise EvidenceMalformed("tdx evidence: aa_eventlog: want text")
    return TdxJson(
        quote=parse_quote(_base64(value.get("quote"), "quote", MAX_QUOTE)),
        event_log=_base64(value["cc_eventlog"], "cc_eventlog", MAX_EVENT_LOG) if value.get("cc_eventlog") else None,
        agent_log=agent_log or None,
    )


def encode_tdx_json(quote: bytes, event_log: bytes | None) -> dict[str, object]:
    """The evidence as an agent sends it, ready for ``json.dumps``."""
    log = None if event_log is None else base64.b64encode(event_log).decode("ascii")
    return {"quote": base64.b64encode(quote).decode("ascii"), "cc_eventlog": log}


def _base64(value: object, name: str, limit: int) -> bytes:
    """Standard alphabet with padding, nothing else."""
    if not isinstance(value, str):
        raise EvidenceMalformed(f"tdx evidence: {name}: want base64 text")
    if len(value) > 4 * (limit // 3 + 1):
        raise EvidenceMalformed(f"tdx evidence: {name}: {len(value)} characters, want at most {limit} bytes")
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise EvidenceMalformed(f"tdx evidence: {name}: not base64") from None
    if base64.b64encode(data).decode("ascii") != value:
        raise EvidenceMalformed(f"tdx evidence: {name}: base64 with stray bits in its last digit")
    return data
