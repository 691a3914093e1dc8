"""The Confidential Containers REST interface inside the guest, on 127.0.0.1:8006 and nowhere else.

    GET /cdh/resource/{repository}/{type}/{tag}       the resource's bytes
    GET /aa/token?token_type=kbs                      {"token": …, "tee_keypair": PEM}
    GET /aa/evidence?runtime_data=…[&encoding=base64] evidence with up to 64 bytes in REPORT_DATA, padded with zeros

Which of them exist stands on the measured command line (``cvm.api``). Whoever may connect may ask: that is every
program in the guest. ``evidence`` lets them all speak for the guest with data of their choosing, so it is ordered on
its own. Requests whose Host is not this address are refused: a browser in the guest is not led here by a foreign name.

Source: confidential-containers/guest-components, ``api-server-rest``.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from attest.attester.errors import Refused, SecretNotFound, ServiceUnavailable
from attest.attester.keeper import Keeper
from policy.errors import CvmError, MalformedInput
from policy.vocab import ResourcePath

ADDRESS, PORT = "127.0.0.1", 8006
RESOURCE, TOKEN, EVIDENCE = "resource", "token", "evidence"
AT_ONCE = 16
SILENCE_SECONDS = 10.0
_MAX_RUNTIME = 64


class Reply(NamedTuple):
    """Status, content type, body."""

    status: int
    kind: str
    body: bytes


class GuestApi:
    """What the paths do. ``evidence`` maps 64 bytes of REPORT_DATA to the protocol's evidence."""

    def __init__(self, served: tuple[str, ...], keeper: Keeper, evidence: Callable[[bytes], dict[str, object]]) -> None:
        self._served = served
        self._keeper = keeper
        self._evidence = evidence
        self._turn = threading.Lock()

    def answer(self, target: str) -> Reply:
        """The answer to ``GET target``. Raises nothing: errors are answers."""
        try:
            return self._answer(target)
        except SecretNotFound as exc:
            return _problem(404, exc.message)
        except Refused as exc:
            return _problem(403, exc.message)
        except MalformedInput as exc:
            return _problem(400, exc.message)
        except ServiceUnavailable as exc:
            return _problem(503, exc.message)
        except CvmError as exc:
            return _problem(502, exc.message)

    def _answer(self, target: str) -> Reply:
        parts = urlsplit(target)
        if parts.path.startswith("/cdh/resource/") and RESOURCE in self._served:
            _query(parts.query, ())
            return self._resource(parts.path.removeprefix("/cdh/resource/"))
        if parts.path == "/aa/token" and TOKEN in self._served:
            return self._token(_query(parts.query, ("token_type",)))
        if parts.path == "/aa/evidence" and EVIDENCE in self._served:
            return self._evidence_for(_query(parts.query, ("runtime_data", "encoding")))
        return _problem(404, "no such path here; cvm.api orders which there are")

    def _resource(self, text: str) -> Reply:
        value = self._keeper.resource(ResourcePath.parse(text))
        reply = Reply(200, "application/octet-stream", value.reveal())
        value.wipe()
        return reply

    def _token(self, query: dict[str, str]) -> Reply:
        kind = query.get("token_type", "")
        if kind != "kbs":
            raise MalformedInput(f"token_type: got {kind[:20]!r}, want kbs")
        token, pem = self._keeper.token()
        return _json(200, {"token": token, "tee_keypair": pem.decode("ascii")})

    def _evidence_for(self, query: dict[str, str]) -> Reply:
        data = _runtime_data(query)
        with self._turn:
            return _json(200, self._evidence(data.ljust(_MAX_RUNTIME, b"\0")))


def serve(api: GuestApi, *, port: int = PORT) -> ThreadingHTTPServer:
    """Listen and answer in threads of their own; raises OSError where the address is taken."""
    slots = threading.BoundedSemaphore(AT_ONCE)

    class Handler(BaseHTTPRequestHandler):
        """One connection, one request."""

        timeout = SILENCE_SECONDS
        server_version = "cvm-guest"
        sys_version = ""

        def do_GET(self) -> None:
            """Host first, then the path; too many at once wait nowhere."""
            listening = self.connection.getsockname()[1]
            if self.headers.get("Host") not in (f"{ADDRESS}:{listening}", f"localhost:{listening}"):
                self._send(_problem(421, "this is 127.0.0.1, and nothing else"))
            elif slots.acquire(blocking=False):
                try:
                    self._send(api.answer(self.path))
                finally:
                    slots.release()
            else:
                self._send(_problem(503, f"{AT_ONCE} requests are being answered"))

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in (
                ("Content-Type", reply.kind),
                ("Content-Length", str(len(reply.body))),
                ("Cache-Control", "no-store"),
                ("Connection", "close"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: paths name resources, and the console is the host's."""

    server = ThreadingHTTPServer((ADDRESS, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="guest-api", daemon=True).start()
    return server


def _query(text: str, known: tuple[str, ...]) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=8, errors="strict")
    except ValueError:
        raise MalformedInput("query: cannot be read") from None
    found = dict(pairs)
    if len(found) != len(pairs) or not set(found) <= set(known):
        raise MalformedInput(f"query: want each of {', '.join(known) or 'nothing'} at most once")
    return found


def _runtime_data(query: dict[str, str]) -> bytes:
    text = query.get("runtime_data", "")
    encoding = query.get("encoding", "")
    if encoding not in ("", "base64"):
        raise MalformedInput(f"encoding: got {encoding[:20]!r}, want base64 or none")
    try:
        data = base64.b64decode(text, validate=True) if encoding else text.encode("utf-8")
    except ValueError:
        raise MalformedInput("runtime_data: not base64") from None
    if not 0 < len(data) <= _MAX_RUNTIME:
        raise MalformedInput(f"runtime_data: {len(data)} bytes, want 1 to {_MAX_RUNTIME}")
    return data


def _json(status: int, value: object) -> Reply:
    return Reply(status, "application/json", json.dumps(value).encode())


def _problem(status: int, text: str) -> Reply:
    return _json(status, {"detail": text})
