"""A bare verify endpoint: a report in, a verdict out, without session, record or key.

The service has none, so ``ours`` is its verification and judgement behind a route of its own: same server, application,
counters and request log. ``peer`` is a minimal Flask application on the same server that only checks the report's
P-384 signature under a key it holds. Both get the same fresh reports in turns, over one kept connection, without TLS,
and are measured by the processor time of their worker.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from flask import Flask, Response, request

from attest.broker.appraise import Bound, appraise
from attest.broker.present_snp import PresentedSnp
from attest.endorsement.p384 import HAVE_AWSCRT, load_with_awscrt, load_with_cryptography
from attest.endorsement.pool import EndorsementSet
from attest.evidence.snp_report import SIGNED_SIZE, SnpReport
from attest.web.app import create_app
from attest.web.handling import json_response
from attest.web.listener import Listener, run_listener
from attest.web.principals import Who, no_caller
from attest.web.routes import Call, Route
from bench._service_load import report, threads_seconds
from bench.verify import public_key
from tests.fakes.service_world import PKI, ServiceWorld

ROUNDS, REQUESTS, WARM = 9, 150, 60
_REPORT_SIZE = 1184


def run() -> list[dict[str, Any]]:
    """The row of this module."""
    with tempfile.TemporaryDirectory(dir=Path(".cache")) as name:
        world = ServiceWorld(Path(name) / "service")
        with _served(lambda: _service(world)) as ours, _served(_minimal) as peer:
            mine, theirs = _in_turns(ours, peer)
        world.database.close()
    ratio = theirs / mine
    return [
        {
            "name": "bare verify endpoint, requests/s of a core", "ours": round(1 / mine), "peer": round(1 / theirs),
            "ratio": round(ratio, 2), "target": "90 % of a minimal Flask application", "met": ratio >= 0.9,
            "detail": f"CPU ms each {mine * 1000:.3f} against {theirs * 1000:.3f}; load {os.getloadavg()[0]:.1f}",
        }
    ]  # fmt: skip


def _service(world: ServiceWorld) -> Flask:
    pool = EndorsementSet.from_der(PKI.certificates)

    def verify(call: Call) -> Response:
        presented, rules = PresentedSnp(SnpReport.parse(call.body), pool), call.service.rules.current()
        bound = Bound(presented.report.report_data)
        found = appraise(presented, bound, (rules.document, rules.references), now=call.now, memory=call.service.memory)
        return json_response({"verdict": found.outcome})

    route = Route("POST", "/verify", Who.ANYONE, verify, _REPORT_SIZE)
    return create_app(world.service, [route], no_caller, clock=lambda: world.now)


def _minimal() -> Flask:
    app, load = Flask("minimal"), load_with_awscrt if HAVE_AWSCRT else load_with_cryptography
    key = load(public_key(PKI.leaf_der))

    @app.post("/verify")
    def verify() -> dict[str, str]:
        found = SnpReport.parse(request.get_data())
        r, s = (int.from_bytes(half, "little") for half in (found.signature_r, found.signature_s))
        key.verify(encode_dss_signature(r, s), hashlib.sha384(found.raw[:SIGNED_SIZE]).digest())
        return {"verdict": "affirming"}

    return app


@contextmanager
def _served(make_app: Callable[[], Flask]) -> Iterator[tuple[int, int]]:
    """Port and process of a listener's one worker."""
    bound, (readable, writable) = socket.create_server(("127.0.0.1", 0)), os.pipe()
    port = bound.getsockname()[1]
    child = os.fork()
    if not child:
        try:
            run_listener(Listener("bench", bound, None, None, 1, make_app, lambda: _tell(writable), 4))
        except SystemExit as ended:
            os._exit(ended.code if isinstance(ended.code, int) else 1)
    bound.close()
    os.close(writable)
    try:
        yield port, int(os.read(readable, 20))
    finally:
        os.close(readable)
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)


def _tell(writable: int) -> None:
    os.write(writable, b"%d" % os.getpid())


def _in_turns(*servers: tuple[int, int]) -> list[float]:
    """Median CPU seconds of each server's worker for one request."""
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=20) for port, _ in servers]
    found: list[list[float]] = [[] for _ in servers]
    for connection in connections:
        _ask(connection, WARM)
    for _ in range(ROUNDS):
        for index, (_, process) in enumerate(servers):
            before = threads_seconds(process)
            _ask(connections[index], REQUESTS)
            found[index].append((threads_seconds(process) - before) / REQUESTS)
    return [median(costs) for costs in found]


def _ask(connection: http.client.HTTPConnection, count: int) -> None:
    for _ in range(count):
        connection.request("POST", "/verify", report(os.urandom(64)))
        answer = connection.getresponse()
        if answer.status != 200 or b"affirming" not in answer.read():
            raise RuntimeError(f"not verified: {answer.status}")
