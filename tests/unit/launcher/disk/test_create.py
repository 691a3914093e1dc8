"""A new disk from beginning to end, against a service with real TLS and an operator certificate."""

from __future__ import annotations

import datetime as dt
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from launcher import disks
from launcher.disks import DiskOrder, create_disk
from launcher.image.errors import DiskExists, DiskFailed
from launcher.image.luks_disk import MINIMUM_SIZE, DiskSecrets
from launcher.io.key_service import KeyService, ResourceExists, ServiceAccess, ServiceRefused, ServiceUnavailable
from policy.vocab import ResourcePath

USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip
ROOT = ResourcePath.parse("default/demo/root")
HEADER = "ab" * 32


class World:
    """The service's resources, and knobs: ``fail`` is a status that every POST gets, ``listing`` replaces the list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.fail: int | None = None
        self.listing: object = None
        self.port = 0

    def access(self, **changes: str) -> ServiceAccess:
        names = {"ca": "ca.pem", "certificate": "operator.pem", "private_key": "operator.key"} | changes
        return ServiceAccess(
            f"https://127.0.0.1:{self.port}", *(self.folder / names[n] for n in ("ca", "certificate", "private_key"))
        )

    def service(self) -> KeyService:
        return KeyService(self.access())


def handler(world: World) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, document: object) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer(200, world.listing or {"resources": [{"path": path} for path in world.kept]})

        def do_POST(self) -> None:
            value = self.rfile.read(int(self.headers["Content-Length"]))
            path, _, query = self.path.removeprefix("/kbs/v0/resource/").partition("?")
            if world.fail is not None:
                self.answer(world.fail, {"type": "t", "detail": "because\x1b[31m of this"})
            elif path in world.kept:
                self.answer(409, {"type": "t", "detail": "exists"})
            else:
                world.kept[path] = value
                world.asked.append(query)
                self.answer(200, {})

        def do_DELETE(self) -> None:
            del world.kept[self.path.removeprefix("/kbs/v0/resource/")]
            self.answer(200, {})

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class Server(ThreadingHTTPServer):
    """A client that gives up during the handshake is no news."""

    def handle_error(self, *_: object) -> None:
        pass


def certificates(folder: Path, prefix: str = "") -> None:
    """A CA, a server certificate and an operator certificate, as PEM files."""
    now = dt.datetime.now(dt.UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{prefix}ca")])

    def make(name: str, key: ec.EllipticCurvePrivateKey, ca: bool) -> None:
        subject = ca_name if ca else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder(ca_name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        # Python 3.13 verifies strictly: an issuer must say that it signs certificates.
        usage = dict.fromkeys(USAGES, False) | ({"key_cert_sign": True} if ca else {"digital_signature": True})
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False)
        pem = builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (folder / f"{prefix}{name}.pem").write_bytes(pem)
        (folder / f"{prefix}{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    make("ca", ca_key, True)
    for name in ("server", "operator"):
        make(name, ec.generate_private_key(ec.SECP256R1()), False)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    pki = tmp_path / "pki"
    pki.mkdir()
    certificates(pki)
    certificates(pki, "other-")
    world = World(pki)
    server = Server(("127.0.0.1", 0), handler(world))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server.pem", pki / "server.key")
    context.load_verify_locations(pki / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    world.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield world
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DiskOrder:
    """An order for a disk; the making itself is tested elsewhere and only writes a mark here."""

    def mark(image: Path, size: int, secrets: DiskSecrets, content: Path | None) -> str:
        image.write_bytes(b"disk of key " + secrets.key.reveal())
        return HEADER

    monkeypatch.setattr(disks, "write_disk", mark)
    (tmp_path / "disks").mkdir()
    return DiskOrder(tmp_path / "disks" / "web-1.img", MINIMUM_SIZE, ROOT)


def make(order: DiskOrder, world: World) -> None:
    assert create_disk(order, world.service(), lambda text: None) == HEADER


def left(order: DiskOrder) -> list[str]:
    return sorted(path.name for path in order.image.parent.iterdir())


def test_the_service_keeps_the_key_that_opens_the_disk(order: DiskOrder, world: World) -> None:
    make(order, world)
    assert order.image.read_bytes() == b"disk of key " + world.kept[ROOT]
    assert len(world.kept[ROOT]) == 32
    assert world.asked == [f"luks-header={HEADER}"]
    assert left(order) == ["web-1.img"]
    assert order.image.stat().st_mode & 0o777 == 0o600


def test_two_disks_have_two_keys(order: DiskOrder, world: World) -> None:
    make(order, world)
    make(DiskOrder(order.image.with_name("b"), MINIMUM_SIZE, ResourcePath.parse("default/b/root")), world)
    assert len(set(world.kept.values())) == 2


def test_an_existing_file_is_never_overwritten(order: DiskOrder, world: World) -> None:
    order.image.write_text("precious")
    with pytest.raises(DiskExists) as caught:
        make(order, world)
    assert caught.value.exit_status == 10
    assert (order.image.read_text(), world.kept) == ("precious", {})


def test_an_existing_key_stops_before_anything_is_made(order: DiskOrder, world: World) -> None:
    world.kept[ROOT] = b"old"
    with pytest.raises(ResourceExists) as caught:
        make(order, world)
    assert caught.value.exit_status == 10
    assert (left(order), world.kept) == ([], {ROOT: b"old"})


@pytest.mark.parametrize(("status", "kind"), [(409, ResourceExists), (503, ServiceUnavailable), (403, ServiceRefused)])
def test_a_key_that_is_not_stored_leaves_no_disk(
    order: DiskOrder, world: World, status: int, kind: type[Exception]
) -> None:
    world.fail = status
    with pytest.raises(kind, match=f"{status}: because .31m of this"):
        make(order, world)
    assert (left(order), world.kept) == ([], {})


def test_a_disk_that_cannot_be_made_leaves_no_key(
    order: DiskOrder, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise DiskFailed("no space")

    monkeypatch.setattr(disks, "write_disk", broken)
    with pytest.raises(DiskFailed):
        make(order, world)
    assert (left(order), world.kept) == ([], {})


def test_a_file_that_appears_meanwhile_is_kept_and_the_key_is_erased(
    order: DiskOrder, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disks, "write_disk", lambda *_: order.image.write_text("precious"))
    with pytest.raises(DiskExists):
        make(order, world)
    assert (order.image.read_text(), world.kept, left(order)) == ("precious", {}, ["web-1.img"])


def test_a_folder_that_is_not_there_is_said(order: DiskOrder, world: World) -> None:
    with pytest.raises(DiskFailed, match="No such file"):
        make(DiskOrder(order.image.parent / "gone" / "x", MINIMUM_SIZE, ROOT), world)
    assert world.kept == {}


def test_a_service_that_is_down_is_worth_a_retry(order: DiskOrder, world: World) -> None:
    access = world.access()
    service = KeyService(ServiceAccess("https://127.0.0.1:1", access.ca, access.certificate, access.private_key))
    with pytest.raises(ServiceUnavailable) as caught:
        create_disk(order, service, lambda text: None)
    assert caught.value.exit_status == 8
    assert left(order) == []


def test_a_service_of_another_ca_is_not_given_a_key(order: DiskOrder, world: World) -> None:
    service = KeyService(world.access(ca="other-ca.pem"))
    with pytest.raises(ServiceRefused, match="not accepted"):
        create_disk(order, service, lambda text: None)
    assert world.kept == {}


def test_an_operator_certificate_of_another_ca_is_refused(order: DiskOrder, world: World) -> None:
    service = KeyService(world.access(certificate="other-operator.pem", private_key="other-operator.key"))
    with pytest.raises((ServiceUnavailable, ServiceRefused)):
        create_disk(order, service, lambda text: None)
    assert (left(order), world.kept) == ([], {})


@pytest.mark.parametrize("url", ["http://127.0.0.1:8445", "https://", "https://h/path", "ftp://h"])
def test_a_url_that_is_not_https_is_refused(world: World, url: str) -> None:
    access = world.access()
    with pytest.raises(ServiceRefused, match="want https"):
        KeyService(ServiceAccess(url, access.ca, access.certificate, access.private_key))


def test_missing_tls_files_are_named(world: World) -> None:
    with pytest.raises(ServiceRefused, match=r"gone\.pem"):
        KeyService(world.access(certificate="gone.pem"))


def test_an_answer_that_is_no_list_is_refused(order: DiskOrder, world: World) -> None:
    world.listing = ["surprise"]
    with pytest.raises(ServiceRefused, match="not understood"):
        make(order, world)
