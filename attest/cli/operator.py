"""An operator's connection to a running service: a certificate says who asks, so approvals can be told apart."""

from __future__ import annotations

import http.client
import json
import ssl
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from attest.store.errors import NotFound, StoreUnavailable
from policy.errors import ConfigInvalid, CvmError

MAX_ANSWER = 1 << 20
_SECONDS = 30


class ServiceRefused(CvmError):
    """The service said no; the message is its own."""

    code = "service.refused"


def add_operator(parser: ArgumentParser) -> None:
    """``--service``, ``--ca``, ``--certificate``, ``--key``."""
    parser.add_argument("--service", required=True, metavar="URL", help="the operators' listener, https://HOST:PORT")
    for name, text in (
        ("ca", "the service's authority (ca.pem)"),
        ("certificate", "yours (operator.pem)"),
        ("key", "its key (operator.key)"),
    ):
        parser.add_argument(f"--{name}", required=True, type=Path, metavar="FILE", help=text)


def ask(args: Namespace, method: str, path: str, query: dict[str, str], body: bytes | None = None) -> bytes:
    """One request; the answer's bytes. Raises ServiceRefused, NotFound, StoreUnavailable, ConfigInvalid."""
    url = urlsplit(args.service)
    if url.scheme != "https" or url.hostname is None or url.path not in ("", "/"):
        raise ConfigInvalid("--service", (f"got {args.service[:80]!r}, want https://HOST:PORT",))
    connection = http.client.HTTPSConnection(url.hostname, url.port or 443, timeout=_SECONDS, context=_context(args))
    try:
        connection.request(method, f"{path}?{urlencode(query)}", body)
        answer = connection.getresponse()
        data = answer.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException) as exc:
        raise StoreUnavailable(f"service {args.service}: {exc}") from None
    finally:
        connection.close()
    return data if answer.status == 200 else _refuse(answer.status, data)


def _context(args: Namespace) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=args.ca)
        context.load_cert_chain(args.certificate, args.key)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigInvalid("--ca, --certificate, --key", (str(exc),)) from None
    return context


def _refuse(status: int, data: bytes) -> bytes:
    try:
        found: Any = json.loads(data)
        detail = str(found["detail"])
    except (ValueError, TypeError, KeyError):
        detail = "no explanation"
    if status == 404:
        raise NotFound(detail)
    if status in (429, 503):
        raise StoreUnavailable(detail)
    raise ServiceRefused(f"{status}: {detail}")
