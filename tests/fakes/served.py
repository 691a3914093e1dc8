"""The real program as operators run it: ``attest init`` and ``attest serve`` in processes of their own."""

from __future__ import annotations

import atexit
import io
import os
import re
import signal
import ssl
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from attest.cli import main
from attest.evidence.amd_certificate import AmdCertificate
from tests.fakes.amd_pki import FakeAmdPki
from tests.fakes.kbs_client import KbsClient, TeeKey, TlsTransport
from tests.fakes.service_world import PKI, evidence
from tests.until import PATIENCE, until

READY = re.compile(r"ready https://127\.0\.0\.1:(\d+) \(operators: https://127\.0\.0\.1:(\d+)\)")


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str


def attest_command(*words: str, stdin: bytes | None = None) -> Done:
    """Run ``attest``: in this process where that is the same (a tenth of the time), else in one of its own."""
    if stdin is None and words[0] != "serve":
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main(list(words))
        return Done(code, out.getvalue(), err.getvalue())
    done = subprocess.run(
        [sys.executable, "-m", "attest", *words], input=stdin or b"", capture_output=True, check=False, timeout=60
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def _end(process: subprocess.Popen[bytes]) -> None:
    """A test that failed half-way leaves its service running; it does not outlive the test run."""
    if process.poll() is None:
        process.terminate()
        process.wait(20)


@dataclass
class Served:
    """A service in ``folder``; ``before`` is Python that its process runs first."""

    folder: Path
    process: subprocess.Popen[bytes] = field(init=False)
    before: str = ""
    port: int = 0
    admin_port: int = 0

    def init(self, pki: FakeAmdPki = PKI, *more: str) -> Served:
        """Make the folder; the policy trusts the fake chip maker. ``more`` are further options."""
        root = AmdCertificate.parse(pki.ark_der).spki_sha256.hex()
        done = attest_command(
            "init", str(self.folder), "--policy", "demo", "--emulated-root", root,
            "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", *more,
        )  # fmt: skip
        assert done.code == 0, done.err
        return self

    @property
    def config(self) -> Path:
        """The settings file."""
        return self.folder / "attest.toml"

    @property
    def log(self) -> Path:
        """Standard error of the server."""
        return self.folder / "serve.log"

    def start(self) -> Served:
        """Serve; returns when the ready line is out."""
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, *self._program(), "serve", str(self.config)], stdin=subprocess.DEVNULL, stderr=sink
            )
        atexit.register(_end, self.process)
        until(lambda: READY.search(self.log.read_text()) or self.process.poll() is not None, "the service is ready")
        match = READY.search(self.log.read_text())
        assert match is not None, self.log.read_text()
        self.port, self.admin_port = int(match[1]), int(match[2])
        return self

    def _program(self) -> list[str]:
        if not self.before:
            return ["-m", "attest"]
        return ["-c", f"{self.before}; import sys; from attest.cli import main; sys.exit(main())"]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it and wait; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def processes(self) -> set[int]:
        """All processes of this service, found by their command line."""
        wanted = str(self.config).encode()
        found = set()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and wanted in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
            except OSError:
                continue
        return found - {os.getpid()}

    def tls(self, *, operator: bool = False) -> ssl.SSLContext:
        """A client's context: pins the service's CA; with ``operator`` shows the operator's certificate."""
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        if operator:
            context.load_cert_chain(self.folder / "operator.pem", self.folder / "operator.key")
        return context

    def guest(self, kind: str = "P-256", **fields: int | bytes) -> KbsClient:
        """A guest that talks TLS."""
        transport = TlsTransport("localhost", self.port, self.tls())
        return KbsClient(transport, lambda report_data: evidence(report_data, **fields), TeeKey(kind))

    def operator(self) -> TlsTransport:
        """An operator's connection."""
        return TlsTransport("localhost", self.admin_port, self.tls(operator=True))

    def attest(self, *words: str, stdin: bytes | None = None) -> Done:
        """A verb with this service's settings."""
        return attest_command(*words, "--config", str(self.config), stdin=stdin)
