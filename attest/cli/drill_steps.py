"""The steps of a drill. The keys are erased from the copy before it listens, so no guest can get one from it."""

from __future__ import annotations

import http.client
import json
import re
import select
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import update

from attest.broker.errors import BackupRefused
from attest.broker.operations import By
from attest.broker.restore import Restored, Wanted, edit_settings, restore
from attest.keys.envelope import Sealed, unseal
from attest.keys.master import load_master_keys
from attest.settings import Settings
from attest.store import secrets
from attest.store.engine import Database
from attest.store.schema import secrets as secrets_table
from policy.vocab import ResourcePath

_READY = re.compile(rb"ready https://127\.0\.0\.1:(\d+) ")
_START_SECONDS = 60
_REASON = "drill: a copy that is erased at once"


@dataclass(frozen=True, slots=True)
class Step:
    """What was done, how long it took, what was found."""

    name: str
    seconds: float
    found: str


def drill(archive: Path, master_key: Path, database: str | None, by: By) -> tuple[Step, ...]:
    """Raises whatever stands in the way of a real restore, and BackupRefused where the service does not answer."""
    with tempfile.TemporaryDirectory(prefix="attest-drill-") as name:
        target = Path(name) / "service"
        found: list[Restored] = []
        steps = [_timed("restore", lambda: _restore(archive, master_key, target, database, by, found))]
        restored = found[0]
        steps.append(_timed("open keys", lambda: _open_keys(restored.settings, master_key)))
        steps.append(_timed("erase keys", lambda: _erase_keys(restored.settings)))
        steps.append(_timed("serve", lambda: _serve(restored, master_key)))
    return tuple(steps)


def _timed(name: str, act: Callable[[], str]) -> Step:
    start = time.monotonic()
    found = act()
    return Step(name, time.monotonic() - start, found)


def _restore(archive: Path, master_key: Path, target: Path, database: str | None, by: By, found: list[Restored]) -> str:
    place = database or str(target.parent / "drill.db")
    found.append(restore(Wanted(archive, master_key, target, place, accept_rollback=_REASON), by))
    return f"{found[0].records - 1} audit records"


def _open_keys(settings: Settings, master_key: Path) -> str:
    """Every value in force opens under the master key. Raises SealBroken."""
    keys, database = load_master_keys(master_key), Database(settings.database)
    with database.read() as tx:
        rows = secrets.all_sealed(tx)
    for row in rows:
        sealed = Sealed(row.master_key_id, row.wrapped_key, row.ciphertext)
        unseal(keys, ResourcePath(row.path), row.version, sealed).wipe()
    database.close()
    return f"{len(rows)} of {len(rows)} resources decrypt"


def _erase_keys(settings: Settings) -> str:
    database = Database(settings.database)
    with database.write() as tx:
        tx.execute(update(secrets_table).values(wrapped_key=None, ciphertext=None, retired=secrets_table.c.created))
    database.close()
    return "from the copy, before it listens"


def _serve(restored: Restored, master_key: Path) -> str:
    loopback: dict[str, str | None] = {"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0"}
    keys: dict[str, str | None] = {"master_key_file": str(master_key.absolute()), "master_key_credential": None}
    edit_settings(restored.config, {"server": loopback, "keys": keys})
    if restored.settings.dashboard is not None:
        edit_settings(restored.config, {"dashboard": {"listen": "127.0.0.1:0"}})
    with _running(restored.config) as port:
        certificate = restored.settings.server.certificate
        ready, _ = _ask(port, certificate, "GET", "/readyz", None)
        asked = json.dumps({"version": "0.4.0", "tee": "snp", "extra-params": ""})
        challenge, body = _ask(port, certificate, "POST", "/kbs/v0/auth", asked)
    if (ready, challenge) != (200, 200):
        raise BackupRefused(
            f"drill: the restored service answers {ready} to /readyz, {challenge} to /auth: {body[:200]}"
        )
    return "ready, and gives challenges"


@contextmanager
def _running(config: Path) -> Iterator[int]:
    """The real program on the restored settings; the guests' port."""
    words = [sys.executable, "-m", "attest", "serve", str(config)]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield _port(process)
    finally:
        process.terminate()
        process.wait(20)
        if process.stderr is not None:
            process.stderr.close()


def _port(process: subprocess.Popen[bytes]) -> int:
    said, deadline, pipe = b"", time.monotonic() + _START_SECONDS, process.stderr
    while pipe is not None and time.monotonic() < deadline:
        if not select.select([pipe], [], [], 1.0)[0]:
            continue
        part = pipe.read1(65536)  # type: ignore[attr-defined]  # a pipe's reader is buffered
        said += part
        if (match := _READY.search(said)) is not None:
            return int(match[1])
        if not part:
            break
    text = said.decode(errors="replace").strip()[-400:]
    raise BackupRefused(f"drill: the restored service does not start: {text}")


def _ask(port: int, certificate: Path, method: str, path: str, body: str | None) -> tuple[int, str]:
    """One request to the server that has exactly this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the certificate itself is pinned
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cafile=certificate)
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read(65536).decode(errors="replace")
    except (OSError, http.client.HTTPException) as exc:
        raise BackupRefused(f"drill: the restored service does not answer: {exc}") from None
    finally:
        connection.close()
