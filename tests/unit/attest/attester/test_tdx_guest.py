"""A TD without configfs-tsm: TDREPORT from the kernel's device, quote from the host's quoting service."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from attest.attester import qgs, sources
from attest.attester.errors import EvidenceUnavailable
from attest.attester.raw_evidence import TDX, RawEvidence, SourceAbsent
from attest.attester.tdx_guest import GET_REPORT0, TDREPORT_BYTES, tdx_guest_quote
from attest.evidence.quote import parse_quote
from tests.fakes.intel_pki import FakeIntelPki

DATA = bytes(range(64))
Answer = Callable[[bytes], bytes]


def quote(data: bytes) -> bytes:
    return FakeIntelPki().with_(td={"report_data": data}).raw


def kernel(kind: int = 0x81, about: bytes | None = None) -> Callable[[int, int, bytearray], object]:
    """The device: fills in a TDREPORT about the REPORTDATA it was given."""

    def ioctl(handle: int, number: int, request: bytearray) -> int:
        assert os.fstat(handle)
        assert (number, len(request)) == (GET_REPORT0, 64 + TDREPORT_BYTES)
        report = bytearray(TDREPORT_BYTES)
        report[0], report[128:192] = kind, about or request[:64]
        request[64:] = report
        return 0

    return ioctl


def answered(
    body: bytes, *, major: int = 1, minor: int = 1, kind: int = 1, error: int = 0, size: int | None = None
) -> bytes:
    """One message of the service, with its length in front."""
    length = 16 + len(body)
    message = struct.pack("<HHIII", major, minor, kind, length if size is None else size, error) + body
    return struct.pack(">I", length) + message


def right(question: bytes) -> bytes:
    """Checks the question as the service does, and quotes its TDREPORT; an id stands before the quote."""
    major, minor, kind, size, error, report_size, ids = struct.unpack_from("<HHIIIII", question)
    assert (major, minor, kind, size, error, report_size, ids) == (1, 0, 0, len(question), 0, 1024, 0)
    found = quote(question[24 + 128 : 24 + 192])
    return answered(struct.pack("<II", 16, len(found)) + bytes(16) + found)


def host(answer: Answer) -> qgs.Connect:
    """A host whose service answers so, in pieces."""

    def connect() -> socket.socket:
        mine, theirs = socket.socketpair()
        theirs.settimeout(5)

        def serve() -> None:
            with mine:
                (size,) = struct.unpack(">I", mine.recv(4, socket.MSG_WAITALL))
                data = answer(mine.recv(size, socket.MSG_WAITALL))
                for start in range(0, len(data), 1000):
                    mine.sendall(data[start : start + 1000])

        threading.Thread(target=serve, daemon=True).start()
        return theirs

    return connect


def ask(tmp_path: Path, answer: Answer = right, **device: object) -> RawEvidence:
    (tmp_path / "tdx_guest").touch()
    return tdx_guest_quote(
        DATA,
        tmp_path / "tdx_guest",
        tmp_path / "CCEL",
        kernel(**device),
        host(answer),  # type: ignore[arg-type]
    )


def test_the_device_and_the_hosts_service_give_a_quote_and_the_log(tmp_path: Path) -> None:
    (tmp_path / "CCEL").write_bytes(b"the log")
    raw = sources.checked(ask(tmp_path), DATA)
    assert (raw.source, raw.tee, raw.event_log) == ("tdx_guest", TDX, b"the log")
    assert parse_quote(raw.report).signed == parse_quote(quote(DATA)).signed
    assert raw.launch_digest == b"\x11" * 48


def test_the_ioctl_is_the_kernels() -> None:
    assert (3 << 30 | (64 + 1024) << 16 | ord("T") << 8 | 1) == GET_REPORT0


@pytest.mark.parametrize("device", [{"kind": 0}, {"about": bytes(64)}])
def test_a_report_of_another_kind_or_about_something_else_is_not_sent_to_the_host(
    tmp_path: Path, device: dict[str, object]
) -> None:
    with pytest.raises(EvidenceUnavailable, match="want 0x81"):
        ask(tmp_path, **device)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "closed the connection"),
        (answered(struct.pack("<II", 0, 9) + bytes(9))[:-1], "closed the connection"),
        (struct.pack(">I", 1 << 31), "2147483648 bytes, want at most"),
        (struct.pack(">I", 8) + bytes(8), "8 bytes, want at most"),
        (answered(struct.pack("<II", 0, 1) + b"q", major=2), "version 2, type 1"),
        (answered(struct.pack("<II", 0, 1) + b"q", kind=3), "type 3"),
        (answered(struct.pack("<II", 0, 1) + b"q", size=24), "24 bytes, want"),
        (answered(bytes(8), error=0x12001), "error 0x12001: is the platform registered"),
        (answered(struct.pack("<II", 0, 0)), "quote of 0 bytes"),
        (answered(struct.pack("<II", 0, 2) + b"q"), "quote of 2 bytes in an answer of 25"),
        (answered(struct.pack("<II", 0xFFFFFFFF, 2) + b"q"), "id of 4294967295"),
    ],
)  # fmt: skip
def test_what_is_no_whole_good_answer_is_said_and_not_sent_on(tmp_path: Path, data: bytes, match: str) -> None:
    with pytest.raises(EvidenceUnavailable, match=match):
        ask(tmp_path, lambda question: data)


def test_a_host_that_says_nothing_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent, theirs = socket.socketpair()
    theirs.settimeout(0.05)
    with silent, pytest.raises(EvidenceUnavailable, match="timed out"):
        qgs.quote_of(bytes(1024), lambda: theirs)


def test_without_the_device_or_without_vsock_the_source_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceAbsent, match="No such file"):
        tdx_guest_quote(DATA, tmp_path / "absent")

    def refuse(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(SourceAbsent, match="vsock: Address family"):
        qgs.connect_to_host()


def test_a_host_where_nobody_listens_is_named_with_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(socket.socket):
        def __init__(self, family: int, kind: int) -> None:
            assert family == socket.AF_VSOCK
            super().__init__(socket.AF_UNIX, kind)

        def connect(self, address: object) -> None:
            assert address == (2, 4050)
            raise OSError(errno.ECONNRESET, "Connection reset by peer")

    monkeypatch.setattr(socket, "socket", Refused)
    with pytest.raises(EvidenceUnavailable, match="vsock port 4050 of the host: Connection reset by peer"):
        qgs.connect_to_host()


def test_a_kernel_that_refuses_a_report_ends_the_search(tmp_path: Path) -> None:
    def ioctl(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "tdx_guest").touch()
    with pytest.raises(EvidenceUnavailable, match="Input/output error") as caught:
        tdx_guest_quote(DATA, tmp_path / "tdx_guest", tmp_path / "CCEL", ioctl, host(right))
    assert not isinstance(caught.value, SourceAbsent)


def test_the_device_is_asked_where_configfs_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: bytes) -> RawEvidence:
        raise SourceAbsent("configfs-tsm: No such file or directory")

    raw = sources.first_present((absent, lambda data: ask(tmp_path)), DATA)
    assert raw.source == "tdx_guest"
