"""A whole service in a temporary folder, a clock that tests turn, and guests whose chips it trusts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

from flask import Flask

from attest.audit.record import Actor
from attest.broker.collateral import ServiceCollateral
from attest.broker.operations import By, NewResource, add_reference, put_resource, retire_reference
from attest.broker.policies import apply_policy
from attest.broker.service import Service
from attest.broker.token import TokenSettings
from attest.broker.views import record_json
from attest.evidence.amd_certificate import AmdCertificate
from attest.evidence.cert_table import ARK, ASK, VCEK, CertEntry
from attest.evidence.snp_json import encode_snp_json
from attest.evidence.snp_report import SnpReport
from attest.keys.master import MasterKeys
from attest.keys.ring import SigningRing
from attest.keys.signing import SigningKey, load_signing_key, make_signing_key
from attest.store import records
from attest.store.engine import Database
from attest.web.admin import ADMIN_ROUTES
from attest.web.app import create_app
from attest.web.duties import EVERYTHING, Roles
from attest.web.gate import Watch
from attest.web.guest import GUEST_ROUTES
from attest.web.metrics import Metrics
from attest.web.principals import CallerOf, no_caller
from policy.reference import ReferenceValue, reference_to_bytes
from policy.secret import SecretBytes
from policy.vocab import LaunchDigest, Platform, ResourcePath
from tests.fakes.amd_pki import NOW, FakeAmdPki
from tests.fakes.kbs_client import KbsClient, TeeKey, WsgiTransport

GOOD = b"\x11" * 48
OTHER = b"\x77" * 48
SECRET = b"the key of a disk, 32 bytes long"
PATH = ResourcePath.parse("default/web-1/root")
OPERATOR = Actor("operator", "olga", "ab" * 32)
AUDITOR = Actor("auditor", "anna", "cd" * 32)
PKI = FakeAmdPki()


def demo_policy(root: bytes = PKI.ark_der) -> bytes:
    """The demo policy, trusting the fake chip maker."""
    text = (files("policy") / "documents" / "demo.toml").read_text()
    return text.replace("@EMULATED_ROOT@", AmdCertificate.parse(root).spki_sha256.hex()).encode()


def reference(name: str = "web-1", digest: bytes = GOOD, **changes: Any) -> bytes:
    """A reference-value file without a recipe."""
    value = ReferenceValue(name, Platform.EMULATED_SNP, LaunchDigest(digest), NOW)
    return reference_to_bytes(value._replace(**changes))


def evidence(report_data: bytes, *, pki: FakeAmdPki = PKI, **fields: int | bytes) -> dict[str, Any]:
    """KBS evidence of a guest of ``pki`` with report fields changed, certificates included."""
    world = pki.with_(report={"measurement": GOOD, "report_data": report_data, **dict(pki.report), **fields})
    certificates = [CertEntry(VCEK, pki.leaf_der), CertEntry(ASK, pki.ask_der), CertEntry(ARK, pki.ark_der)]
    return encode_snp_json(SnpReport.parse(world.raw), certificates)


@dataclass
class ServiceWorld:
    """The service, its applications, and what happened in it. ``now`` is what its clock says.

    ``store`` is a PostgreSQL address; without one there is a SQLite file.
    """

    folder: Path
    store: str | None = None
    now: datetime = NOW
    keys: MasterKeys = field(default_factory=lambda: MasterKeys((SecretBytes(b"m" * 32),)))
    busy_seconds: float = 5.0
    collateral: ServiceCollateral = field(default_factory=ServiceCollateral)
    issuer: str = "attest"
    dialect: str = "trustee"
    again: bool = False
    """Whether the folder is one that a world was made in before."""

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.database = Database(self.store or self.folder / "attest.db", busy_seconds=self.busy_seconds)
        if not self.again:
            self.database.create()
            make_signing_key(self.folder / "token.key")
        self.signing: SigningKey = load_signing_key(self.folder / "token.key")
        settings = TokenSettings(self.issuer, "kbs", timedelta(minutes=5), "attest test", self.dialect)
        ring = SigningRing(self.folder / "token.key", clock=lambda: self.now.timestamp())
        self.service = Service(self.database, self.keys, ring, settings, self.collateral)
        if not self.again:
            self.policy(demo_policy())
            self.add_reference()
            self.put()

    @property
    def by(self) -> By:
        """The operator, now."""
        return By(OPERATOR, self.now)

    def policy(self, data: bytes) -> None:
        """Put a policy in force."""
        apply_policy(self.database, data, self.by)

    def add_reference(self, data: bytes | None = None) -> None:
        """Register a reference value."""
        add_reference(self.database, reference() if data is None else data, self.by)

    def retire(self, name: str = "web-1") -> None:
        """Retire a reference value."""
        retire_reference(self.database, name, self.by)

    def put(self, path: ResourcePath = PATH, value: bytes = SECRET, **more: Any) -> int:
        """Store a resource."""
        return put_resource(self.database, self.keys, NewResource(path, SecretBytes(value), **more), self.by)

    def later(self, **by: float) -> None:
        """Turn the clock."""
        self.now += timedelta(**by)

    def guest_app(self) -> Flask:
        """The guests' application."""
        return create_app(self.service, GUEST_ROUTES, no_caller, clock=lambda: self.now)

    def admin_app(self, operator: Actor | None = OPERATOR) -> Flask:
        """The operators' application, as ``operator`` (or nobody) sees it."""
        return self.admin_app_for(lambda environ, now: operator)

    def admin_app_for(self, caller_of: CallerOf, roles: Roles = EVERYTHING) -> Flask:
        """The operators' application, with ``caller_of`` to say who asks."""
        watch = Watch("operators", Metrics({"operators": [route.path for route in ADMIN_ROUTES]}))
        return create_app(self.service, ADMIN_ROUTES, caller_of, clock=lambda: self.now, watch=watch, roles=roles)

    def client(self, kind: str = "P-256", *, pki: FakeAmdPki = PKI, **fields: int | bytes) -> KbsClient:
        """A guest with report fields changed."""
        transport = WsgiTransport(self.guest_app().test_client(use_cookies=False))
        return KbsClient(transport, lambda report_data: evidence(report_data, pki=pki, **fields), TeeKey(kind))

    def records(self, kind: str | None = None) -> list[Mapping[str, Any]]:
        """Audit records as listings show them."""
        with self.database.read() as tx:
            return [record_json(entry) for entry in records.newest(tx, kind=kind)]
