"""The guest of a drill: it attests to the restored service and gets a key that was made for it, and no other.

A real guest cannot take part: its chip's reports are made for its own machine's challenges. So the copy, and nothing
but the copy, trusts a chip that is made for this drill: its keys are in this process's memory only and are gone with
it. The order is what makes that harmless: every key of the service is erased from the copy first; then the copy trusts
that chip and gets one throw-away key. What production trusts was tried before, on the evidence of its last accepted
guest, decided again as of its date.
"""

from __future__ import annotations

import http.client
import os
import ssl
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from attest.attester.errors import Refused, ServiceUnavailable
from attest.attester.https import Answer
from attest.attester.kbs import KbsClient
from attest.attester.session import Pace, Session
from attest.broker.errors import BackupRefused
from attest.broker.operations import By, NewResource, add_reference, delete_resource, put_resource, retire_reference
from attest.broker.policies import apply_policy, version
from attest.cli.policy_file import PLACEHOLDER
from attest.emulator.chip import Chip, LaunchContext
from attest.emulator.pki import ChipKeys, make_chip
from attest.evidence.cert_table import ARK, ASK, VCEK, CertEntry
from attest.evidence.chip_port import ReportRequest
from attest.evidence.snp_json import encode_snp_json
from attest.evidence.snp_report import SnpReport
from attest.keys.master import MasterKeys
from attest.keys.statement import Signed
from attest.store import secrets
from attest.store.engine import Database
from attest.store.errors import NotFound
from policy.errors import CvmError
from policy.reference import ReferenceValue, reference_to_bytes
from policy.secret import SecretBytes
from policy.vocab import LaunchDigest, Platform, ResourcePath

_NO_DEBUG = 0x30000
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class DrillGuest:
    """A chip, the launch digest that the copy accepts, and the key that is to come. ``before``: the policy in force in
    what was restored, ``None`` where there was none.
    """

    chip: ChipKeys
    name: str
    path: ResourcePath
    digest: bytes
    value: bytes
    before: Signed | None

    @property
    def policy(self) -> bytes:
        """What the copy is to accept: this chip, and launch digests that are registered."""
        text = (files("policy") / "documents" / "demo.toml").read_text()
        return text.replace(PLACEHOLDER, self.chip.root_sha256).encode()

    def attest(self, port: int, certificate: Path) -> str:
        """Get the key; and be refused as another guest of the same chip. Raises BackupRefused."""
        got = self._guest(port, certificate, self.digest)
        try:
            value = got.secret(self.path)
            same = value.reveal() == self.value
            value.wipe()
        except CvmError as exc:
            raise BackupRefused(f"drill: the restored service gives an accepted guest no key: {exc.message}") from None
        if not same:
            raise BackupRefused("drill: the restored service gives another key than the one that was stored")
        self._refused(self._guest(port, certificate, os.urandom(48)))
        return "a guest got its key, another one was refused"

    def _refused(self, other: Session) -> None:
        try:
            other.attest()
        except Refused:
            return
        except CvmError as exc:
            raise BackupRefused(f"drill: an unknown guest is not refused but: {exc.message}") from None
        raise BackupRefused("drill: the restored service accepts a guest whose measurement it does not know")

    def _guest(self, port: int, certificate: Path, digest: bytes) -> Session:
        launch = LaunchContext(LaunchDigest(digest), _NO_DEBUG, bytes(32), os.urandom(32))
        client = KbsClient(_Pinned(port, certificate))
        return Session(client, "snp", lambda data: self._evidence(launch, data), pace=Pace(patience=_PATIENCE))

    def _evidence(self, launch: LaunchContext, report_data: bytes) -> dict[str, object]:
        chip = self.chip
        report = Chip(chip, launch).report(ReportRequest(report_data))
        chain = ((VCEK, chip.vcek), (ASK, chip.ask), (ARK, chip.ark))
        entries = [CertEntry(kind, certificate.public_bytes(Encoding.DER)) for kind, certificate in chain]
        return encode_snp_json(SnpReport.parse(report), entries)


def prepare(database: Database, keys: MasterKeys, by: By) -> DrillGuest:
    """Let the copy expect a guest. Every key must be erased by now: raises BackupRefused where one is not."""
    with database.read() as tx:
        if left := secrets.all_sealed(tx):
            raise BackupRefused(f"drill: {len(left)} keys are still in the copy")
        before = _policy_of(database)
    mark = os.urandom(6).hex()
    path = ResourcePath.parse(f"drill/{mark}/key")
    guest = DrillGuest(make_chip(by.now), f"drill-{mark}", path, os.urandom(48), os.urandom(32), before)
    add_reference(database, _reference(guest, by.now), by)
    put_resource(database, keys, NewResource(path, SecretBytes(guest.value)), by)
    return guest


def take_back(database: Database, guest: DrillGuest, by: By) -> None:
    """What was put in place for the guest is out of force again: a database of its own outlives the drill."""
    retire_reference(database, guest.name, by)
    delete_resource(database, guest.path, by)
    if guest.before is not None:
        apply_policy(database, guest.before, by)


def _policy_of(database: Database) -> Signed | None:
    with database.read() as tx:
        try:
            return version(tx)[1]
        except NotFound:
            return None


def _reference(guest: DrillGuest, now: datetime) -> bytes:
    return reference_to_bytes(ReferenceValue(guest.name, Platform.EMULATED_SNP, LaunchDigest(guest.digest), now))


@dataclass(frozen=True, slots=True)
class _Pinned:
    """Requests to the server on a loopback port that has exactly this certificate."""

    port: int
    certificate: Path

    def send(
        self, method: str, path: str, body: bytes | None, cookie: str | None, challenge: str | None = None
    ) -> Answer:
        """As a guest's transport. Raises ServiceUnavailable."""
        connection = pinned(self.port, self.certificate)
        try:
            connection.request(method, path, body, {} if cookie is None else {"Cookie": cookie})
            answer = connection.getresponse()
            shown = (answer.headers["Set-Cookie"] or "").partition(";")[0]
            return Answer(answer.status, answer.read(1 << 20), shown or None)
        except (OSError, http.client.HTTPException) as exc:
            raise ServiceUnavailable(f"drill: the restored service does not answer: {exc}") from None
        finally:
            connection.close()


def pinned(port: int, certificate: Path) -> http.client.HTTPSConnection:
    """A connection to the server that has exactly this certificate, whatever name is in it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the certificate itself is pinned
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cafile=certificate)
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
