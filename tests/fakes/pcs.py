"""Intel's provisioning certification service, or a PCCS, on loopback: serves what a :class:`FakeIntelPki` signs, and
misbehaves on demand.

with FakePcs(world) as pcs:
    pcs.next(Reply(status=429, headers={"Retry-After": "7"}))      the next answer, whatever is asked
    pcs.always = Reply(status=500)                                 every answer
    pcs.world = world.with_(tcb_info={"fmspc": "00" * 6})          another world answers from now on
    source = pcs.source(folder)                                    a client of it, with a clock tests turn
    pcs.asked                                                      paths in order
"""

from __future__ import annotations

import ssl
import threading
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from attest.collateral.cache import Cache
from attest.collateral.clock import Clock
from attest.collateral.intel_source import PcsSource
from attest.collateral.intel_wanted import STANDARD, Channel, IntelKind, IntelWanted, PckCa, Tee
from attest.collateral.limits import Timeouts, Tls
from attest.collateral.pcs_settings import PcsSettings
from attest.emulator.td_pki import pem_chain
from tests.fakes.background import Background
from tests.fakes.intel_pki import FMSPC, FakeIntelPki
from tests.fakes.kds import FakeClock, Reply

TCB = IntelWanted(IntelKind.TCB_INFO, Tee.TDX, FMSPC)
IDENTITY = IntelWanted(IntelKind.QE_IDENTITY, Tee.TDX)
PLATFORM_LIST = IntelWanted(IntelKind.PCK_CRL, ca=PckCa.PLATFORM)
PROCESSOR_LIST = IntelWanted(IntelKind.PCK_CRL, ca=PckCa.PROCESSOR)
ROOT_LIST = IntelWanted(IntelKind.ROOT_CRL)
EVERYTHING = (TCB, IDENTITY, PLATFORM_LIST, ROOT_LIST)

Right = tuple[bytes, Mapping[str, str]]


class FakePcs(Background):
    """The service; a context manager. ``tls`` is a folder: then it speaks HTTPS, with ``tls/ca.pem`` as authority.

    ``ignores_numbers``: answers with what it has, whatever evaluation data number is asked for, as old caches do.
    """

    def __init__(self, world: FakeIntelPki, *, tls: Path | None = None) -> None:
        self.world = world
        self.asked: list[str] = []
        self.always: Reply | None = None
        self.ignores_numbers = False
        self.hex_lists = False
        self.time = FakeClock()
        self._next: deque[Reply] = deque()
        self._stop = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._scheme = "http"
        if tls is not None:
            self._server.socket = _server_context(tls).wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def next(self, *replies: Reply) -> None:
        """What to answer next, in order."""
        self._next.extend(replies)

    def settings(self, *others: str, channel: Channel = STANDARD, tls: Tls | None = None) -> PcsSettings:
        """Asks this service, then ``others``; nobody's distribution point."""
        return PcsSettings(
            urls=(self.url, *others), root_crl_url="", channel=channel, tls=tls or Tls(), timeouts=Timeouts(2.0, 2.0)
        )

    def source(
        self, folder: Path, *others: str, online: bool = True, clock: Clock | None = None, tls: Tls | None = None
    ) -> PcsSource:
        """A cache in ``folder`` in front of this service."""
        clock = clock or self.time.clock
        return PcsSource(Cache(folder, clock), self.settings(*others, tls=tls) if online else None, clock)

    def right(self, target: str) -> Right | None:
        """What Intel would answer; ``None`` for 404."""
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        tee, _, rest = parts.path.removeprefix("/").partition("/certification/v4/")
        world = self.world
        number = query.get("tcbEvaluationDataNumber")
        documents = {
            "tcb": (world.tcb_info_object, "TCB-Info-Issuer-Chain", "tcb_info_json"),
            "qe/identity": (world.qe_identity_object, "SGX-Enclave-Identity-Issuer-Chain", "qe_identity_json"),
        }
        if rest in documents and tee == ("tdx" if world.is_td else "sgx"):
            signed, header, attribute = documents[rest]
            wrong = number is not None and number != str(signed["tcbEvaluationDataNumber"])
            if (rest == "tcb" and bytes.fromhex(query["fmspc"]) != FMSPC) or (wrong and not self.ignores_numbers):
                return None
            body: bytes = getattr(world, attribute)
            return body, {header: _chain(*world.issuer_chain)}
        if rest == "pckcrl":
            ca = {"platform": "PLATFORM_CA", "processor": "PROCESSOR_CA"}[query["ca"]]
            return self._form(world.crl(ca)), {"SGX-PCK-CRL-Issuer-Chain": _chain(world.issued(ca).der, world.root_der)}
        return (self._form(world.crl("ROOT")), {}) if rest == "rootcacrl" else None

    def _form(self, der: bytes) -> bytes:
        return der.hex().encode() if self.hex_lists else der

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        pcs = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                pcs.asked.append(self.path)
                reply = pcs._next.popleft() if pcs._next else pcs.always or Reply()
                pcs._stop.wait(reply.delay)
                right = pcs.right(self.path)
                body, headers = (b"", {}) if right is None else right
                status = 404 if right is None and reply.status == 200 and reply.body is None else reply.status
                self.close_connection = True
                try:
                    self._answer(
                        reply, status, body if reply.body is None else reply.body, {**headers, **reply.headers}
                    )
                except OSError:
                    return  # the client went away, which is what some tests are about

            def _answer(self, reply: Reply, status: int, body: bytes, headers: Mapping[str, str]) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                sent = body if reply.cut is None else body[: reply.cut]
                if not reply.drip:
                    self.wfile.write(sent)
                    return
                for number in range(len(sent)):
                    self.wfile.write(sent[number : number + 1])
                    if pcs._stop.wait(reply.drip):
                        return

            def log_message(self, *words: object) -> None:
                """Nothing on standard error."""

        return Handler


def _chain(*ders: bytes) -> str:
    """An issuer chain as the header carries it."""
    return quote(pem_chain(*ders).rstrip(b"\0"))


def _server_context(folder: Path) -> ssl.SSLContext:
    """A self-signed certificate for 127.0.0.1, as a PCCS has; written to ``folder/ca.pem``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pccs")]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / "ca.pem", folder / "key.pem"
    pem.write_bytes(certificate.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, secret)
    return context
