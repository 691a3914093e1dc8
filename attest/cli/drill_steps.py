"""The steps of a drill. The keys are erased from the copy before it trusts the drill's own guest and before it listens,
so nobody can get one from it.
"""

from __future__ import annotations

import http.client
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import update

from attest.audit.canonical import rfc3339
from attest.audit.record import DECISION
from attest.broker.errors import BackupRefused
from attest.broker.operations import By
from attest.broker.rego_engine import RegoUnavailable
from attest.broker.repeat import repeat_decision
from attest.broker.restore import Restored, Wanted, edit_settings, restore
from attest.cli.drill_guest import DrillGuest, pinned, prepare, take_back
from attest.keys.envelope import Sealed, unseal
from attest.keys.master import MasterKeys, load_master_keys
from attest.settings_collateral import CollateralSettings
from attest.settings_edit import Values
from attest.store import records, secrets
from attest.store.engine import Database
from attest.store.records import Filter
from attest.store.schema import secrets as secrets_table
from policy.decide import AFFIRMING
from policy.vocab import ResourcePath

_READY = re.compile(rb"ready https://127\.0\.0\.1:(\d+) ")
_START_SECONDS = 60
TOKENS = "drill"
"""Issuer and audience of the tokens the copy signs with the service's own key."""
_REASON = "drill: a copy that is erased at once"


@dataclass(frozen=True, slots=True)
class Step:
    """What was done, how long it took, what was found."""

    name: str
    seconds: float
    found: str


def drill(archive: Path, master_key: Path, database: str | None, by: By) -> tuple[Step, ...]:
    """Raises whatever stands in the way of a real restore, AuditBroken where the last accepted guest would not be
    accepted by what was restored, and BackupRefused where the service does not answer or gives no key.
    """
    with tempfile.TemporaryDirectory(prefix="attest-drill-") as name:
        target = Path(name) / "service"
        found: list[Restored] = []
        steps = [_timed("restore", lambda: _restore(archive, master_key, target, database, by, found))]
        restored = found[0]
        copy, keys = Database(restored.settings.database), load_master_keys(master_key)
        steps.append(_timed("decide again", lambda: _decide_again(copy)))
        steps.append(_timed("open keys", lambda: _open_keys(copy, keys)))
        steps.append(_timed("erase keys", lambda: _erase_keys(copy)))
        return (*steps, *_with_a_guest(restored, copy, keys, (master_key, by)))


def _with_a_guest(restored: Restored, copy: Database, keys: MasterKeys, how: tuple[Path, By]) -> Iterator[Step]:
    (master_key, by), start = how, time.monotonic()
    guest = prepare(copy, keys, by)
    try:
        _settle(restored, master_key, guest)
        yield Step("make a guest", time.monotonic() - start, "a chip, a measurement and a key for this drill only")
        start, certificate = time.monotonic(), restored.settings.server.certificate
        with _running(restored.config) as port:
            yield Step("serve", time.monotonic() - start, _ready(port, certificate))
            yield _timed("attest", lambda: guest.attest(port, certificate))
    finally:
        take_back(copy, guest, by)
        copy.close()


def _timed(name: str, act: Callable[[], str]) -> Step:
    start = time.monotonic()
    found = act()
    return Step(name, time.monotonic() - start, found)


def _restore(archive: Path, master_key: Path, target: Path, database: str | None, by: By, found: list[Restored]) -> str:
    place = database or str(target.parent / "drill.db")
    found.append(restore(Wanted(archive, master_key, target, place, accept_rollback=_REASON), by))
    return f"{found[0].records - 1} audit records"


def _decide_again(copy: Database) -> str:
    """The newest accepted decision, by the evidence, rules and collateral in the backup, as of its date. Raises
    AuditBroken.
    """
    with copy.read() as tx:
        newest = records.find(tx, Filter(kinds=(DECISION,), outcome=AFFIRMING), limit=1)
        if not newest:
            return "no guest was accepted yet"
        try:
            repeated = repeat_decision(tx, newest[0])
        except RegoUnavailable:
            repeated = False
    if not repeated:
        return f"decision {newest[0].seq} cannot be made here: it rests on Rego, and there is no engine"
    return f"decision {newest[0].seq} of {rfc3339(newest[0].time)} comes out the same"


def _open_keys(copy: Database, keys: MasterKeys) -> str:
    """Every value in force opens under the master key. Raises SealBroken."""
    with copy.read() as tx:
        rows = secrets.all_sealed(tx)
    for row in rows:
        sealed = Sealed(row.master_key_id, row.wrapped_key, row.ciphertext)
        unseal(keys, ResourcePath(row.path), row.version, sealed).wipe()
    return f"{len(rows)} of {len(rows)} resources decrypt"


def _erase_keys(copy: Database) -> str:
    with copy.write() as tx:
        tx.execute(update(secrets_table).values(wrapped_key=None, ciphertext=None, retired=secrets_table.c.created))
    return "from the copy, before it trusts anybody else or listens"


def _settle(restored: Restored, master_key: Path, guest: DrillGuest) -> None:
    """The copy's settings: on loopback, asking nobody, signing no checkpoint (the log it would sign is not the real
    one), with the policy that accepts the drill's guest, and with tokens that no relying party takes for real ones.
    """
    policy = restored.config.with_name("drill-policy.toml")
    policy.write_bytes(guest.policy)
    loopback: Values = {"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0"}
    keys: Values = {"master_key_file": str(master_key.absolute()), "master_key_credential": None}
    rules: Values = {"file": str(policy), "signers": None, "signatures": None}
    edit_settings(restored.config, {"server": loopback, "keys": keys, "policy": rules})
    has: dict[str, tuple[bool, Values]] = {
        "dashboard": (restored.settings.dashboard is not None, {"listen": "127.0.0.1:0"}),
        "audit": (restored.settings.audit is not None, {"checkpoint_seconds": 0}),
        "collateral": (restored.settings.collateral != CollateralSettings(), {"online": False, "renew": None}),
    }
    for table, (there, values) in has.items():
        if there:
            edit_settings(restored.config, {table: values})
    text = restored.config.read_text()
    if not re.search(r"^\s*\[token\]", text, re.MULTILINE):
        restored.config.write_text(f"{text}\n[token]\n")
    edit_settings(restored.config, {"token": {"issuer": TOKENS, "audience": TOKENS}})


def _ready(port: int, certificate: Path) -> str:
    connection = pinned(port, certificate)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        said = answer.read(65536).decode(errors="replace")
    except (OSError, http.client.HTTPException) as exc:
        raise BackupRefused(f"drill: the restored service does not answer: {exc}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise BackupRefused(f"drill: the restored service answers {answer.status} to /readyz: {said[:200]}")
    return "ready"


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
