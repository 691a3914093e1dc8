"""The audit log's own paths (C2SP tlog-tiles) below ``/cvm/v0/log``.

Checkpoint and hashes are for anybody: they name nobody, and a log that only its owner can watch is none. Records name
resources, machines and operators: those are for auditors, on their listener.
"""

from __future__ import annotations

from flask import Response

from attest.broker.log_served import entries_of, hash_tile, newest_checkpoint
from attest.web.principals import Who
from attest.web.routes import Call, Route

PREFIX = "/cvm/v0/log"
_FOR_EVER = "max-age=31536000, immutable"


def checkpoint(call: Call) -> Response:
    """``GET``: the newest checkpoint, a signed note."""
    return Response(newest_checkpoint(call.service.database), content_type="text/plain; charset=utf-8")


def tile(call: Call) -> Response:
    """``GET``: a tile of hashes, full or partial."""
    return _kept(hash_tile(call.service.database, call.arguments["tile"]), "public")


def entries(call: Call) -> Response:
    """``GET``: the records under a tile of the lowest level."""
    return _kept(entries_of(call.service.database, call.arguments["tile"]), "private")


def _kept(data: bytes, whose: str) -> Response:
    return Response(data, content_type="application/octet-stream", headers={"Cache-Control": f"{whose}, {_FOR_EVER}"})


LOG_ROUTES = (
    Route("GET", f"{PREFIX}/checkpoint", Who.ANYONE, checkpoint),
    Route("GET", f"{PREFIX}/tile/<path:tile>", Who.ANYONE, tile),
)
AUDITORS_LOG_ROUTES = (
    Route("GET", f"{PREFIX}/checkpoint", Who.AUDITOR, checkpoint),
    Route("GET", f"{PREFIX}/tile/entries/<path:tile>", Who.AUDITOR, entries),
    Route("GET", f"{PREFIX}/tile/<path:tile>", Who.AUDITOR, tile),
)
