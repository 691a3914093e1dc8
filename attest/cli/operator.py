"""An operator's connection to a running service: a certificate or a bearer token says who asks, so that approvals are
told apart.
"""

from __future__ import annotations

import json
import os
import re
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from attest.cli.common import read_file
from attest.store.errors import NotFound, StoreUnavailable
from policy.errors import ConfigInvalid, CvmError

if TYPE_CHECKING:
    import ssl

TOKEN_FILE = "ATTEST_TOKEN_FILE"  # noqa: S105  # the name of a variable
"""Names the file of the bearer token; the token itself stays out of the environment."""
MAX_ANSWER = 64 << 20
_MAX_TOKEN = 16 * 1024
_TOKEN = re.compile(r"[A-Za-z0-9_.-]+")
_SECONDS = 30


class ServiceRefused(CvmError):
    """The service said no; message, code and hint are its own."""

    code = "service.refused"


class ServiceState(ServiceRefused):
    """It said no because of the state something is in, as the verb on the machine itself would (exit 10)."""


LISTENER = "the operators' listener, https://HOST:PORT"


def add_operator(parser: ArgumentParser, *, required: bool = True, where: str = LISTENER, ca: str = "--ca") -> None:
    """``--service``, ``--service-ca`` (``--ca`` for short where that is not taken), and ``--certificate`` with
    ``--key`` or ``--token-file``.
    """
    parser.add_argument("--service", required=required, metavar="URL", help=where)
    parser.add_argument(
        *dict.fromkeys((ca, "--service-ca")),
        dest="service_ca",
        type=Path,
        metavar="FILE",
        help="the service's authority, ca.pem (default: the system's)",
    )
    for name, text in (
        ("certificate", "yours (operator.pem)"),
        ("key", "its key (operator.key)"),
        ("token-file", f"instead of both: a bearer token of the service's OpenID provider (default: ${TOKEN_FILE})"),
    ):
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=text)


def ask(args: Namespace, method: str, path: str, query: dict[str, str], body: bytes | None = None) -> bytes:
    """One request; the answer's bytes. Raises ServiceRefused, NotFound, StoreUnavailable, ConfigInvalid."""
    import http.client

    url = urlsplit(args.service)
    if url.scheme != "https" or url.hostname is None or url.path not in ("", "/"):
        raise ConfigInvalid("--service", (f"got {args.service[:80]!r}, want https://HOST:PORT",))
    token = _token(args)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    connection = http.client.HTTPSConnection(url.hostname, url.port or 443, timeout=_SECONDS, context=_context(args))
    try:
        connection.request(method, f"{path}?{urlencode(query)}", body, headers)
        answer = connection.getresponse()
        data = answer.read(MAX_ANSWER + 1)
    except (OSError, http.client.HTTPException) as exc:
        raise StoreUnavailable(f"service {args.service}: {exc}") from None
    finally:
        connection.close()
    if answer.status != 200:
        return _refuse(answer.status, data)
    if len(data) > MAX_ANSWER:
        raise ServiceRefused(f"service {args.service}: an answer of more than {MAX_ANSWER} bytes, ask for less")
    return data


def ask_json(args: Namespace, method: str, path: str, query: dict[str, str], body: bytes | None = None) -> Any:
    """The answer's JSON object. Raises as :func:`ask`, ServiceRefused for an answer that is none."""
    try:
        found = json.loads(ask(args, method, path, query, body))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ServiceRefused(f"service {args.service}: answered something else than a JSON object: is this a listener?")
    return found


def _token(args: Namespace) -> str | None:
    """The bearer token, ``None`` where a certificate is shown. Raises ConfigInvalid, NotFound."""
    path: Path | None = args.token_file
    if args.certificate is not None or args.key is not None:
        if path is not None:
            raise ConfigInvalid("--token-file", ("want either this or --certificate and --key, not both",))
        if args.certificate is None or args.key is None:
            raise ConfigInvalid("--certificate, --key", ("want both",))
        return None
    path = path or (Path(os.environ[TOKEN_FILE]) if os.environ.get(TOKEN_FILE) else None)
    if path is None:
        raise ConfigInvalid("--certificate", (f"missing, want it with --key, or --token-file, or ${TOKEN_FILE}",))
    text = read_file(path, "token", _MAX_TOKEN).decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(text):
        raise ConfigInvalid(str(path), ("does not hold a bearer token",))
    return text


def _context(args: Namespace) -> ssl.SSLContext:
    import ssl

    try:
        context = ssl.create_default_context(cafile=args.service_ca)
        if args.certificate is not None:
            context.load_cert_chain(args.certificate, args.key)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigInvalid("--ca, --certificate, --key", (str(exc),)) from None
    return context


def _refuse(status: int, data: bytes) -> bytes:
    try:
        found: Any = json.loads(data)
        detail, code, hint = str(found["detail"]), str(found["code"]), found.get("hint")
    except (ValueError, TypeError, KeyError, AttributeError):
        detail, code, hint = "no explanation", None, None
    cls = {404: NotFound, 409: ServiceState, 429: StoreUnavailable, 503: StoreUnavailable}.get(status, ServiceRefused)
    own = status in (404, 429, 503)
    raise cls(detail if own else f"{status}: {detail}", code=code, hint=hint if isinstance(hint, str) else None)
