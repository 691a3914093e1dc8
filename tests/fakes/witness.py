"""A witness over real HTTP: the product's own judgement, with a memory that tests can change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest.audit.checkpoint import Checkpoint
from attest.audit.note import COSIGNATURE, Verifier, verifier_of
from attest.audit.witness import Answer, WitnessKey, judge

TIME = 1_800_000_000


class FakeWitness:
    """``known`` is what it has seen, by origin; ``lie`` may replace an answer."""

    def __init__(self, logs: dict[str, Verifier], name: str = "witness.example/w1") -> None:
        self.key = WitnessKey(name, Ed25519PrivateKey.generate())
        self.logs = logs
        self.known: dict[str, Checkpoint] = {}
        self.lie: Callable[[Answer], Answer] = lambda answer: answer
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def verifier(self) -> Verifier:
        """Its public key."""
        return verifier_of(self.key.name, self.key.private, COSIGNATURE)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, body: bytes) -> Answer:
        """One request after the other: judged, remembered, answered."""
        with self._lock:
            answer = judge(body, self.logs, self.known, self.key, TIME)
            if answer.remember is not None:
                self.known[answer.remember.origin] = answer.remember
        return self.lie(answer)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        witness = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                answer = witness.answer(self.rfile.read(int(self.headers["Content-Length"])))
                data = answer.body.encode()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Tests are quiet."""

        return Handler
