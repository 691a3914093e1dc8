"""The agent's work in order: network, evidence, attestation, keys, disks, payload. What touches the machine is behind
:class:`attest.attester.machine.Machine`, so the order and the outcomes can be tested anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from attest.attester.ccel import with_event
from attest.attester.clock import learn_time
from attest.attester.cmdline import Orders, RootOrder, ServiceAddress
from attest.attester.disk_key import DiskKey
from attest.attester.errors import PayloadFailed, Refused
from attest.attester.guest_api import PORT
from attest.attester.https import HttpsTransport, Transport, pinned_context
from attest.attester.init_data import BoundInitData, establish
from attest.attester.kbs import KbsClient, token_status
from attest.attester.keeper import Keeper
from attest.attester.machine import CheckedDisk, Machine, Places, RunningPayload, Unlocked
from attest.attester.proof import ProvenTransport
from attest.attester.raw_evidence import TDX, RawEvidence
from attest.attester.resident import Resident
from attest.attester.rotation import Keyslots, rotate, wanted
from attest.attester.session import Pace, Session, patiently
from attest.attester.status import Status
from policy.errors import CvmError

Connect = Callable[[ServiceAddress, bytes], Transport]
API_PATIENCE = 20.0


def connect(address: ServiceAddress, ca: bytes) -> Transport:
    """HTTPS with the pinned CA."""
    return HttpsTransport(address, pinned_context(ca))


def connect_without_dates(address: ServiceAddress, ca: bytes) -> Transport:
    """As :func:`connect`, for learning the time: the certificate's dates are not looked at."""
    return HttpsTransport(address, pinned_context(ca, dates=False))


class Agent:
    """Carries out ``orders`` on ``machine`` and reports to ``status``."""

    def __init__(
        self,
        orders: Orders,
        machine: Machine,
        status: Status,
        *,
        connect: Connect = connect,
        pace: Pace | None = None,
        api_port: int = PORT,
    ) -> None:
        self._orders = orders
        self._machine = machine
        self._status = status
        self._connect = connect
        self._pace = pace
        self._api_port = api_port
        self.listening = 0
        self._init_data: BoundInitData | None = None
        self._root: Path | None = None

    def work(self) -> RunningPayload | None:
        """Everything up to the running payload; raises :class:`Refused` or another CvmError, already reported."""
        try:
            return self._work()
        except Refused as exc:
            reasons = "".join(f"\n  - {reason}" for reason in exc.reasons)
            self._status.event(
                "refused",
                f"REFUSED by the service: {exc}{reasons}",
                code=exc.code,
                message=exc.message,
                reasons=list(exc.reasons),
            )
            raise
        except CvmError as exc:
            self._status.event("failed", f"FAILED: {exc}", code=exc.code, message=exc.message)
            raise

    def _work(self) -> RunningPayload | None:
        orders = self._orders
        if orders.net is not None:
            name = self._machine.network(orders.net)
            self._status.say(f"network: {name} has {orders.net.address}/{orders.net.prefix}")
        if orders.root is not None:
            self._root = self._open_root(orders.root)
        unlocked = self._unlock_all(orders.service, orders.ca) if orders.service and orders.ca else []
        if self._root is not None:
            self._machine.furnish(self._root)
        if orders.run is None:
            return None
        places = Places(self._root, unlocked[0].mounted if unlocked else None)
        return self._machine.start(orders.run, places, self._pass_on)

    def _open_root(self, order: RootOrder) -> Path:
        """Before the service is asked for anything: a guest whose root was changed gets no key."""
        mounted = self._machine.open_root(order)
        self._status.say(f"root {order.name}: all {order.blocks} blocks are what {order.root_hash[:16]}… says")
        return mounted

    def _unlock_all(self, service: ServiceAddress, ca: bytes) -> list[Unlocked]:
        # Headers first: for a disk that will not be opened, no key is asked for.
        disks = [self._machine.inspect(order) for order in self._orders.disks]
        tee = self._machine.tee(self._orders.emulated)
        self._status.say(f"service: https://{service.host}:{service.port}, certificate pinned by the command line")
        if self._orders.init_data:
            emulated = self._orders.emulated
            self._init_data = establish(self._machine, tee, emulated=emulated, tell=self._status.say)
        if self._orders.pins:
            self._learn_time(service, ca, tee)
        session = Session(
            self._client(service, ca),
            tee,
            lambda report_data: self._evidence(report_data, tee),
            pace=self._pace,
            tell=self._status.say,
        )
        result = token_status(session.attest())
        self._status.event("attested", f"attested: the service says {result}", status=result)
        unlocked = [self._unlock(disk, session) for disk in disks]
        if self._orders.operators:
            self._serve_exec(session)  # forks, so before any thread
        if self._orders.stays:
            self._stay(service, ca, tee)
        elif tee == TDX:  # an agent that goes on asking for secrets must be able to show the registers they want
            self._close_door()
        return unlocked

    def _client(self, service: ServiceAddress, ca: bytes) -> KbsClient:
        return KbsClient(self._transport(service, ca), self._init_data.found.text if self._init_data else None)

    def _transport(self, service: ServiceAddress, ca: bytes) -> Transport:
        """Proofs are demanded where the command line pins the key that makes them."""
        inner = self._connect(service, ca)
        return ProvenTransport(inner, self._orders.pins) if self._orders.pins else inner

    def _learn_time(self, service: ServiceAddress, ca: bytes, tee: str) -> None:
        def learn() -> float:
            transport = connect_without_dates(service, ca)
            return learn_time(transport, self._orders.pins, tee, set_clock=self._machine.set_clock)

        off = patiently(learn, self._pace or Pace(), self._status.say)
        self._status.say(f"service proven by the pinned key; this clock was off by {off:.0f} s")

    def _stay(self, service: ServiceAddress, ca: bytes, tee: str) -> None:
        """Files, interface and timer, with sessions of their own and less patience than at boot."""

        def evidence(report_data: bytes) -> dict[str, object]:
            return self._machine.evidence_json(self._raw_evidence(report_data, tee))

        pace = (self._pace or Pace())._replace(patience=API_PATIENCE)
        keeper = Keeper(lambda: Session(self._client(service, ca), tee, evidence, pace=pace))
        resident = Resident(self._orders, keeper, self._machine.secrets_folder, self._status)
        self.listening = resident.start(evidence, port=self._api_port)

    def _serve_exec(self, session: Session) -> None:
        """Only here: after the service accepted this guest and its disks are open."""
        operators, say = self._orders.operators, self._status.say
        self._machine.serve_exec(operators, lambda: session.credential(time.time()), self._root, say)
        say(f"exec: open to {len(operators)} operator key(s) of the measured command line")

    def _evidence(self, report_data: bytes, tee: str) -> dict[str, object]:
        raw = self._raw_evidence(report_data, tee)
        document = self._machine.evidence_json(raw)
        measurement = raw.launch_digest.hex()
        self._status.event(
            "evidence",
            f"evidence: {'quote' if tee == TDX else 'report'} from {raw.source}, launch digest {measurement[:16]}…",
            source=raw.source,
            tee=tee,
            measurement=measurement,
            certificate_bytes=len(raw.certificates),
            event_log_bytes=len(raw.event_log),
        )
        return document

    def _raw_evidence(self, report_data: bytes, tee: str) -> RawEvidence:
        """With the log of what this agent extended."""
        raw = self._machine.evidence(report_data, tee, self._orders.emulated)
        event = self._init_data.event if self._init_data else b""
        return raw._replace(event_log=with_event(raw.event_log, event)) if event else raw

    def _close_door(self) -> None:
        closed = self._machine.close_door(self._orders.emulated)
        self._status.say(
            "RTMR3 extended: quotes from here on say that the keys were released"
            if closed
            else "RTMR3 not extended: this kernel offers no way (Linux 6.16 and later do)"
        )

    def _unlock(self, disk: CheckedDisk, session: Session) -> Unlocked:
        order = disk.order
        key = session.disk_key(order.resource)
        try:
            slots = self._machine.recognise(disk, key.facts.accepted)
            unlocked = self._machine.unlock(disk, key.key)
            if wanted(key):
                self._rotate(disk, slots, key, session)
        finally:
            key.wipe()
            self._machine.discard(disk)
        mode = "read-only" if unlocked.read_only else "read-write"
        self._status.event(
            "unlocked",
            f"disk {order.name}: header accepted, unlocked, mounted {mode} at {unlocked.mounted}",
            disk=order.name,
            resource=str(order.resource),
            mounted=str(unlocked.mounted),
            mode=mode,
            luks_uuid=disk.header_uuid,
        )
        return unlocked

    def _rotate(self, disk: CheckedDisk, slots: Keyslots, key: DiskKey, session: Session) -> None:
        """Replace the disk's key. What fails is tried again at the next boot: the disk is open, and stays usable."""
        order = disk.order
        if disk.read_only:
            self._status.say(f"disk {order.name}: its key is to be replaced, but the disk is read-only")
            return
        try:
            version = rotate(slots, key, lambda *told: session.report_header(order.resource, *told))
        except CvmError as exc:
            self._status.say(f"disk {order.name}: replacing its key has to go on at the next boot: {exc.message}")
        else:
            self._status.say(f"disk {order.name}: key version {version} is in force, the old one opens nothing")

    def _pass_on(self, text: str) -> None:
        self._status.event("payload-output", text=text)
        for line in text.splitlines():
            self._status.say(f"| {line}")


def settle(payload: RunningPayload | None, status: Status, seconds: float) -> int | None:
    """Report ``running``: at once without a payload, else when it has ended well or has lasted ``seconds``.

    Its exit status, ``None`` when it runs on (or there is none); raises :class:`PayloadFailed`, reported.
    """
    code = payload.wait(seconds) if payload is not None else None
    if code:
        problem = PayloadFailed(f"payload: ended with {_ending(code)}")
        status.event("failed", f"FAILED: {problem}", code=problem.code, message=problem.message, exit=code)
        raise problem
    if payload is None:
        status.event("running", "running: no payload asked for")
    elif code is None:
        status.event("running", "running: the payload is at work", payload="running")
    else:
        status.event("running", "payload ended well", payload="ended", exit=0)
    return code


def _ending(code: int) -> str:
    return f"exit status {code}" if code > 0 else f"signal {-code}"
