"""Evidence through configfs-tsm (Linux 6.7 and later): ``/sys/kernel/config/tsm/report``.

A directory made there is one request: write 64 bytes to ``inblob``, read the report (or quote) from ``outblob`` and, of
an SNP guest, the certificate table from ``auxblob``. ``generation`` counts writes; if it is not what we expect,
somebody else wrote to our request and what was read may answer another question. Source: Linux
``Documentation/ABI/testing/configfs-tsm-report``.
"""

from __future__ import annotations

import os
from pathlib import Path

from attest.attester.ccel import CCEL, event_log
from attest.attester.errors import EvidenceUnavailable
from attest.attester.raw_evidence import MAX_CERTIFICATES, SNP, TDX, RawEvidence, SourceAbsent

ROOT = Path("/sys/kernel/config/tsm/report")
NAME = "cvm-attester"
PROVIDERS = {SNP: "sev_guest", TDX: "tdx_guest"}


def configfs_report(report_data: bytes, root: Path = ROOT) -> RawEvidence:
    """An SNP report and certificate table for ``report_data``; raises :class:`SourceAbsent` where the kernel has no
    provider.
    """
    return _request(report_data, SNP, root)


def configfs_quote(report_data: bytes, root: Path = ROOT, ccel: Path = CCEL) -> RawEvidence:
    """A TD's quote for ``report_data`` and the event log of its firmware and kernel, as :func:`configfs_report`."""
    return _request(report_data, TDX, root)._replace(event_log=event_log(ccel))


def _request(report_data: bytes, tee: str, root: Path) -> RawEvidence:
    request = root / NAME
    try:
        request.mkdir()
    except FileExistsError as exc:
        raise EvidenceUnavailable(f"configfs-tsm: {request} exists already; somebody else is asking") from exc
    except OSError as exc:  # no such directory: no tsm module; ENXIO: no provider has registered
        raise SourceAbsent(f"configfs-tsm: {exc.strerror}") from None
    try:
        return _ask(request, report_data, tee)
    except OSError as exc:
        raise EvidenceUnavailable(f"configfs-tsm: {exc.filename or 'request'}: {exc.strerror}") from None
    finally:
        _remove(request)


def _ask(request: Path, report_data: bytes, tee: str) -> RawEvidence:
    provider = _read(request / "provider", 64).decode("ascii", "replace").strip()
    if provider != PROVIDERS[tee]:
        raise EvidenceUnavailable(f"configfs-tsm: provider {provider!r}, want {PROVIDERS[tee]!r}")
    expected = _generation(request) + 1
    _write(request / "inblob", report_data)
    report = _read(request / "outblob", 64 * 1024)
    certificates = _read(request / "auxblob", MAX_CERTIFICATES + 1) if tee == SNP else b""
    got = _generation(request)
    if got != expected:
        raise EvidenceUnavailable(f"configfs-tsm: generation {got}, want {expected}: the request was changed meanwhile")
    if not report:
        raise EvidenceUnavailable("configfs-tsm: empty answer: the host's quoting service is not running or not set up")
    return RawEvidence(report, certificates, "configfs-tsm", tee)


def _generation(request: Path) -> int:
    text = _read(request / "generation", 32)
    if not text.strip().isdigit():
        raise EvidenceUnavailable(f"configfs-tsm: generation {text[:32]!r} is not a number")
    return int(text)


def _read(path: Path, limit: int) -> bytes:
    """All of an attribute, at most ``limit`` bytes. Binary attributes give everything only when read to their end."""
    parts: list[bytes] = []
    fd = os.open(path, os.O_RDONLY)
    try:
        while limit > 0 and (part := os.read(fd, min(limit, 65536))):
            parts.append(part)
            limit -= len(part)
    finally:
        os.close(fd)
    return b"".join(parts)


def _write(path: Path, data: bytes) -> None:
    """One write call: configfs gathers a binary attribute and commits it when the file is closed."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _remove(request: Path) -> None:
    try:
        request.rmdir()
    except OSError:
        return  # its being left over disturbs nobody but a second agent, and there is none
