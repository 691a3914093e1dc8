"""A service with something to show, and the dashboard's application or process over its database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from flask import Flask

from attest.audit.record import DECISION, GUEST, Event
from attest.broker.log import LogSigner, checkpoint
from attest.broker.operations import add_reference
from attest.broker.trail import append
from attest.keys.log_key import make_log_key
from attest.settings_collateral import CollateralSettings
from attest.store.engine import Database
from attest.web.dashboard.app import create_dashboard
from attest.web.dashboard.house import House
from attest.web.dashboard.visitors import Visitors
from ovmf.firmware import Firmware
from ovmf.kernel_hashes import KernelHashes, cmdline_hash
from ovmf.snp_launch import digest_from_recipe, recipe
from ovmf.vcpu import vcpu_signature
from policy.reference import LaunchRecipe, MeasuredInput, ReferenceValue, reference_to_bytes
from policy.snp import TcbVersion
from policy.vocab import Platform
from tests.fakes.amd_pki import NOW, FakeAmdPki, Leaf
from tests.fakes.firmware import image
from tests.fakes.kbs_client import KbsError
from tests.fakes.service_world import PATH, ServiceWorld, demo_policy

HOSTILE = "\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>\u202egnp.exe\u2066\"'><img src=x onerror=alert(2)>"
"""Escape codes for terminals, a script, marks that turn the direction of text, a way out of an attribute."""
MARKUP = "images/</title></text><script>alert(3)</script>\"'>initrd"
"""What a reference value may carry: printable, and hostile all the same."""


def launch(initrd: bytes = b"initrd", *, path: str = "images/web/initrd.zst") -> LaunchRecipe:
    """A recipe over real firmware structures."""
    hashes = KernelHashes(sha256(b"kernel").digest(), sha256(initrd).digest(), cmdline_hash(b"console=ttyS0"))
    made = recipe(Firmware.from_bytes(image()), vcpus=2, vcpu_sig=vcpu_signature("EPYC-v4"), hashes=hashes)
    files = (
        MeasuredInput("kernel", "images/web/vmlinuz", sha256(b"kernel").hexdigest()),
        MeasuredInput("initrd", path, sha256(initrd).hexdigest()),
    )
    return made._replace(inputs=files)


def value(name: str, of: LaunchRecipe, *, expires: datetime | None = None) -> bytes:
    """A reference-value file."""
    found = ReferenceValue(name, Platform.EMULATED_SNP, digest_from_recipe(of), NOW, expires=expires, recipe=of)
    return reference_to_bytes(found)


@cache
def machine(number: int, microcode: int = 84) -> FakeAmdPki:
    """The chip of one machine of the fleet, its firmware at some level."""
    tcb = TcbVersion(10, 0, 24, microcode)
    names = ("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb")
    chip = sha256(bytes([number])).digest() * 2
    return FakeAmdPki(
        leaf=Leaf(hwid=chip, tcb=tcb), report={"chip_id": chip, **{name: tcb.to_bytes() for name in names}}
    )


def attempt(world: ServiceWorld, of: LaunchRecipe, pki: FakeAmdPki, **fields: int | bytes) -> None:
    """One attestation, and the disk key where it was accepted."""
    try:
        world.client(pki=pki, measurement=bytes(digest_from_recipe(of)), **fields).resource(PATH)
    except KbsError:
        return


def furnish(folder: Path) -> ServiceWorld:
    """A service's few weeks: accepted, denied, forged and unreadable evidence, rules that change, a signed checkpoint.

    Among it a name and a summary that attack whoever reads them.
    """
    world = ServiceWorld(folder, now=NOW - timedelta(days=24))
    good, other = launch(), launch(b"other initrd", path=MARKUP)
    world.add_reference(value("shop-1", good, expires=NOW + timedelta(days=12)))
    for day in range(24):
        world.later(days=1)
        for number in range(day % 4 + 1):
            attempt(world, good, machine(number, 84 if number < 2 else 71))
        if day % 5 == 2:
            attempt(world, other, machine(1))
        if day % 9 == 4:
            attempt(world, good, machine(0), vmpl=0xFFFFFFFF)
    world.policy(demo_policy().replace(b'debug = "forbid"', b'debug = "allow"  # for one evening', 1))
    add_reference(world.database, value("shop-2", other), world.by)
    world.retire("shop-2")
    hostile = {"evidence": {"received_sha256": "0" * 64, "received_bytes": 9}, "tee": "snp", "platform": None}
    rules = {"generation": 1, "policy": "0" * 64, "references": "0" * 64}
    failure = {"code": "evidence.malformed", "message": f"report: {HOSTILE}"}
    body = {**hostile, "rules": rules, "claims": None, "emulated": None, "decision": None, "token_id": None}
    with world.database.write() as tx:
        append(
            tx, Event(world.now, DECISION, HOSTILE, "malformed", GUEST, body | {"failure": failure, "summary": HOSTILE})
        )
    key = make_log_key(folder / "log.key", "kbs.example/audit")
    checkpoint(world.database, LogSigner(key, folder / "log.seen"), world.now)
    attempt(world, other, machine(1))
    world.later(minutes=3)
    attempt(world, good, machine(0))
    world.later(minutes=1)
    return world


def house_of(world: ServiceWorld, collateral: CollateralSettings | None = None, store: str | None = None) -> House:
    """What the dashboard's process would hold of the world: its database, read-only, maybe by another address."""
    database = Database(store or world.store or world.folder / "attest.db", read_only=True)
    return House.of(database, collateral or CollateralSettings())


def pages_over(world: ServiceWorld, collateral: CollateralSettings | None = None, store: str | None = None) -> Flask:
    """The dashboard's application over the world's database, at the world's time."""
    return create_dashboard(house_of(world, collateral, store), Visitors.anybody(), clock=lambda: world.now)


class _Quiet(WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def listening(app: Flask) -> Iterator[str]:
    """The application on a loopback port of this process; its URL."""
    server = make_server("127.0.0.1", 0, app, server_class=WSGIServer, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
