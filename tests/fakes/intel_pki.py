"""A platform that looks like Intel's: root, CAs, PCK, TCB signer, lists, TCB info, QE identity, quotes; every knob can be
turned wrong.

    world = FakeIntelPki()                                   everything right: a TD, quote version 4, UpToDate
    world = FakeIntelPki(version=5, layout="1.5")            another quote
    world = FakeIntelPki(td={"td_attributes": 1})            one field, signed
    world = FakeIntelPki(tcb_info={"fmspc": "00" * 6})       one member, signed
    world.verify()                                           claims, or the error

Keys are made once per process. ``layout`` is ``sgx``, ``1.0``, ``1.5`` or ``1.5-extended``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attest.emulator.td_pki import (
    Issued,
    QuoteKeys,
    QuoteParts,
    Validity,
    build_quote,
    compact,
    issue,
    new_key,
    pem_chain,
    revocation_list,
    sgx_body,
    signed_json,
    td_body,
)
from attest.endorsement.intel import IntelAnchors
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.eventlog import EventLog
from attest.evidence.intel_certificate import IntelCertificate, IntelCrl, IntelRole
from attest.evidence.intel_json import QeIdentity, TcbInfo, parse_qe_identity, parse_tcb_info
from attest.evidence.quote import Quote, parse_quote
from attest.evidence.sgx_extension import SgxExtension
from attest.evidence.tdx_json import encode_tdx_json
from attest.verifier.quote import QuoteVerifier
from policy.claims import VerifiedClaims

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LIFE = Validity(datetime(2025, 1, 1, tzinfo=UTC), datetime(2032, 1, 1, tzinfo=UTC))
CURRENT = Validity(NOW - timedelta(days=2), NOW + timedelta(days=28))
FMSPC = bytes.fromhex("50806f000000")
PPID, PIID = bytes(range(16)), bytes(range(16, 32))
COMPONENTS = (7, 9, 3, 3, 3, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0)
PCESVN = 13
TEE_TCB_SVN = bytes([5, 1, 6, *bytes(13)])
QE_SVN = 8
TD_QE_SIGNER = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")
SGX_QE_SIGNER = bytes.fromhex("8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff")
SGX = SgxExtension(
    PPID, COMPONENTS, PCESVN, bytes(COMPONENTS), b"\0\0", FMSPC, 1, PIID, dynamic_platform=True, cached_keys=False,
    smt_enabled=True,
)  # fmt: skip
TD: dict[str, int | bytes] = {
    "tee_tcb_svn": TEE_TCB_SVN, "mrseam": b"\x5e" * 48, "td_attributes": 1 << 28, "xfam": 0x61AE7, "mrtd": b"\x11" * 48,
    "rtmr0": b"\xa0" * 48, "rtmr1": b"\xa1" * 48, "rtmr2": b"\xa2" * 48, "report_data": b"\x22" * 64,
}  # fmt: skip
ENCLAVE: dict[str, int | bytes] = {
    "cpusvn": bytes(COMPONENTS), "attributes": 5, "xfrm": 7, "mrenclave": b"\x33" * 32, "mrsigner": b"\x44" * 32,
    "isvprodid": 9, "isvsvn": 4, "report_data": b"\x22" * 64,
}  # fmt: skip


@cache
def key_of(name: str) -> ec.EllipticCurvePrivateKey:
    """The key of one part, the same for the whole process."""
    return new_key()


@dataclass(frozen=True)
class FakeIntelPki:
    """One platform, its collateral and one quote. Mappings hold what differs from the good ones above."""

    version: int = 4
    layout: str = "1.0"
    td: Mapping[str, int | bytes] = field(default_factory=dict)
    enclave: Mapping[str, int | bytes] = field(default_factory=dict)
    qe: Mapping[str, int | bytes] = field(default_factory=dict)
    sgx: Mapping[str, Any] = field(default_factory=dict)
    quote: Mapping[str, Any] = field(default_factory=dict)
    """Changes of :class:`attest.emulator.td_pki.QuoteParts`."""
    certificates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Changes of certificates by role name (``ROOT``, ``PLATFORM_CA``, …): as ``issue`` takes them, and ``validity``,
    ``issuer`` (role name), ``key`` (name)."""
    tcb_info: Mapping[str, Any] = field(default_factory=dict)
    qe_identity: Mapping[str, Any] = field(default_factory=dict)
    levels: tuple[Mapping[str, Any], ...] | None = None
    modules: tuple[Mapping[str, Any], ...] | None = None
    qe_levels: tuple[Mapping[str, Any], ...] | None = None
    crls: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By issuer: ``ROOT``, ``PLATFORM_CA``, ``PROCESSOR_CA``; ``revoked`` role names, ``validity``, ``absent``, ``key``."""
    json_key: str = "TCB_SIGNING"
    ca: str = "PLATFORM_CA"
    attestation_key: str = "attestation"
    pck_signs_with: str = "PCK"

    def with_(self, **changes: Any) -> FakeIntelPki:
        """Another one with some things changed."""
        return replace(self, **changes)

    @property
    def is_td(self) -> bool:
        """A TD's quote, not an enclave's."""
        return self.layout != "sgx"

    def issued(self, role: str) -> Issued:
        """The certificate of ``role`` and its key."""
        return self._issued[role]

    @cached_property
    def _issued(self) -> dict[str, Issued]:
        found: dict[str, Issued] = {}
        for number, role in enumerate(("ROOT", "PLATFORM_CA", "PROCESSOR_CA", "PCK", "TCB_SIGNING"), 1):
            changes = dict(self.certificates.get(role, {}))
            parent = changes.pop("issuer", {"ROOT": None, "PCK": self.ca}.get(role, "ROOT"))
            validity, key = changes.pop("validity", LIFE), key_of(changes.pop("key", role))
            signer = None if parent is None else found[parent]
            sgx = self.extension if role == "PCK" else None
            found[role] = issue(IntelRole[role], key, signer, validity, 0x1000 + number, sgx, changes)
        return found

    @property
    def extension(self) -> SgxExtension:
        """The PCK certificate's."""
        good = SGX
        if self.ca == "PROCESSOR_CA":
            good = SGX._replace(piid=None, dynamic_platform=None, cached_keys=None, smt_enabled=None)
        return good._replace(**self.sgx)

    @property
    def root_der(self) -> bytes:
        """The root certificate."""
        return self.issued("ROOT").der

    @property
    def chain(self) -> tuple[bytes, bytes, bytes]:
        """PCK, authority, root, DER."""
        return self.issued("PCK").der, self.issued(self.ca).der, self.root_der

    @cached_property
    def raw(self) -> bytes:
        """The quote's bytes."""
        body = (
            td_body(self.layout, {**TD, **self._newer(), **self.td})
            if self.is_td
            else sgx_body({**ENCLAVE, **self.enclave})
        )
        signer, product = (TD_QE_SIGNER, 2) if self.is_td else (SGX_QE_SIGNER, 1)
        qe: dict[str, int | bytes] = {
            "cpusvn": bytes(COMPONENTS), "attributes": 0x15, "xfrm": 0xE7, "mrsigner": signer, "isvprodid": product,
            "isvsvn": QE_SVN, **self.qe,
        }  # fmt: skip
        parts = QuoteParts(self.version, body, self.layout, qe, pem_chain(*self.chain))._replace(**self.quote)
        return build_quote(parts, QuoteKeys(key_of(self.pck_signs_with), key_of(self.attestation_key)))

    def _newer(self) -> dict[str, int | bytes]:
        return {} if self.layout == "1.0" else {"tee_tcb_svn2": TEE_TCB_SVN}

    @cached_property
    def parsed(self) -> Quote:
        """The quote, parsed."""
        return parse_quote(self.raw)

    # Collateral ---------------------------------------------------------------------------------------------------

    @property
    def tcb_info_object(self) -> dict[str, Any]:
        """The inner object of the TCB info."""
        kind = "TDX" if self.is_td else "SGX"
        found: dict[str, Any] = {
            "id": kind, "version": 3, "issueDate": stamp(CURRENT.start), "nextUpdate": stamp(CURRENT.end),
            "fmspc": self.extension.fmspc.hex().upper(), "pceId": "0000", "tcbType": 0, "tcbEvaluationDataNumber": 20,
        }  # fmt: skip
        if self.is_td:
            found["tdxModule"] = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
            found["tdxModuleIdentities"] = list((module(),) if self.modules is None else self.modules)
        found["tcbLevels"] = list(default_levels(td=self.is_td) if self.levels is None else self.levels)
        return {**found, **self.tcb_info}

    @property
    def qe_identity_object(self) -> dict[str, Any]:
        """The inner object of the QE identity."""
        signer, product, kind = (TD_QE_SIGNER, 2, "TD_QE") if self.is_td else (SGX_QE_SIGNER, 1, "QE")
        return {
            "id": kind, "version": 2, "issueDate": stamp(CURRENT.start), "nextUpdate": stamp(CURRENT.end),
            "tcbEvaluationDataNumber": 20, "miscselect": "00" * 4, "miscselectMask": "FF" * 4,
            "attributes": "11" + "00" * 15, "attributesMask": "FB" + "FF" * 7 + "00" * 8,
            "mrsigner": signer.hex().upper(), "isvprodid": product,
            "tcbLevels": list((isv(QE_SVN), isv(4, "OutOfDate", ("INTEL-SA-00615",))) if self.qe_levels is None else self.qe_levels),
            **self.qe_identity,
        }  # fmt: skip

    @property
    def tcb_info_json(self) -> bytes:
        """The answer that holds the TCB info."""
        return signed_json("tcbInfo", compact(self.tcb_info_object), key_of(self.json_key))

    @property
    def qe_identity_json(self) -> bytes:
        """The answer that holds the QE identity."""
        return signed_json("enclaveIdentity", compact(self.qe_identity_object), key_of(self.json_key))

    def crl(self, issuer: str) -> bytes:
        """The list of one CA, DER."""
        changes = dict(self.crls.get(issuer, {}))
        signer = self.issued(issuer)
        if "key" in changes:
            signer = signer._replace(key=key_of(changes["key"]))
        revoked = [self.issued(role).certificate.serial_number for role in changes.get("revoked", ())]
        return revocation_list(
            signer, changes.get("validity", CURRENT), changes.get("number", 7), revoked
        ).public_bytes(Encoding.DER)

    @property
    def crl_ders(self) -> tuple[bytes, ...]:
        """The lists a verifier of this quote wants."""
        return tuple(self.crl(name) for name in ("ROOT", self.ca) if not self.crls.get(name, {}).get("absent"))

    @property
    def issuer_chain(self) -> tuple[bytes, bytes]:
        """TCB signer and root, DER, as in the headers of Intel's answers."""
        return self.issued("TCB_SIGNING").der, self.root_der

    @cached_property
    def collateral(self) -> IntelCollateral:
        """All of it, parsed."""
        return IntelCollateral.of(
            [IntelCertificate.parse(der) for der in (*self.issuer_chain, self.issued(self.ca).der)],
            [IntelCrl.parse(der) for der in self.crl_ders],
            [parse_tcb_info(self.tcb_info_json)],
            [parse_qe_identity(self.qe_identity_json)],
        )

    @property
    def anchors(self) -> IntelAnchors:
        """This root and no other."""
        return IntelAnchors.test_only(self.root_der)

    def inputs(
        self, *, now: datetime = NOW, report_data: bytes | None = None, event_log: EventLog | None = None,
        collateral: IntelCollateral | None = None, anchors: IntelAnchors | None = None,
    ) -> QuoteInputs:  # fmt: skip
        """What :meth:`verify` would verify, as bytes."""
        pool = self.collateral if collateral is None else collateral
        evidence = self.raw
        if event_log is not None:
            evidence = json.dumps(encode_tdx_json(self.raw, event_log.raw)).encode()
        return QuoteInputs(
            evidence,
            tuple(item.der for item in pool.certificates),
            tuple(item.der for item in pool.crls),
            tuple(answer("tcbInfo", item) for item in pool.tcb_infos),
            tuple(answer("enclaveIdentity", item) for item in pool.qe_identities),
            self.anchors if anchors is None else anchors,
            now,
            report_data,
        )

    def verify(
        self, *, now: datetime = NOW, report_data: bytes | None = None, event_log: EventLog | None = None,
        collateral: IntelCollateral | None = None, anchors: IntelAnchors | None = None,
    ) -> VerifiedClaims:  # fmt: skip
        """The claims, or the verifier's error."""
        return QuoteVerifier(anchors or self.anchors).verify(
            self.parsed, collateral or self.collateral, now=now, expected_report_data=report_data, event_log=event_log
        )


@dataclass(frozen=True)
class QuoteInputs:
    """Everything one verification depends on; ``tcb_infos`` and ``qe_identities`` are answers as Intel serves them."""

    evidence: bytes
    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    tcb_infos: tuple[bytes, ...]
    qe_identities: tuple[bytes, ...]
    anchors: IntelAnchors
    now: datetime
    expected_report_data: bytes | None


def answer(member: str, item: TcbInfo | QeIdentity) -> bytes:
    """The answer that held ``item``, its signed text unchanged."""
    return b'{"%s":%s,"signature":"%s"}' % (member.encode(), item.signed, item.signature.hex().encode())


def stamp(when: datetime) -> str:
    """A date as Intel writes it."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def level(
    status: str = "UpToDate", advisories: tuple[str, ...] = (), *, td: bool = True, **changes: Any
) -> dict[str, Any]:
    """A TCB level that the good platform reaches exactly. ``changes``: ``sgx``, ``pcesvn``, ``tdx``, ``date``."""
    tcb: dict[str, Any] = {
        "sgxtcbcomponents": [{"svn": svn} for svn in changes.get("sgx", COMPONENTS)],
        "pcesvn": changes.get("pcesvn", PCESVN),
    }
    if td:
        tcb["tdxtcbcomponents"] = [{"svn": svn} for svn in changes.get("tdx", TEE_TCB_SVN)]
    return _level(tcb, status, advisories, changes.get("date", "2025-05-14T00:00:00Z"))


def default_levels(*, td: bool) -> tuple[dict[str, Any], ...]:
    """UpToDate, and an older level that is OutOfDate."""
    older = tuple(max(0, svn - 1) for svn in COMPONENTS)
    return (
        level(td=td),
        level(
            "OutOfDate",
            ("INTEL-SA-01036",),
            td=td,
            sgx=older,
            pcesvn=5,
            tdx=bytes([3, 0, 4, *bytes(13)]),
            date="2024-03-13T00:00:00Z",
        ),
    )


def module(name: str = "TDX_01", levels: tuple[Mapping[str, Any], ...] | None = None, **changes: Any) -> dict[str, Any]:
    """A TDX module identity."""
    found = (isv(5), isv(2, "OutOfDate", ("INTEL-SA-01099",))) if levels is None else levels
    return {
        "id": name,
        "mrsigner": "00" * 48,
        "attributes": "00" * 8,
        "attributesMask": "FF" * 8,
        "tcbLevels": list(found),
        **changes,
    }


def isv(
    svn: int, status: str = "UpToDate", advisories: tuple[str, ...] = (), date: str | None = None
) -> dict[str, Any]:
    """A level of a module or QE."""
    default = "2025-05-14T00:00:00Z" if status == "UpToDate" else "2024-03-13T00:00:00Z"
    return _level({"isvsvn": svn}, status, advisories, date or default)


def _level(tcb: dict[str, Any], status: str, advisories: tuple[str, ...], date: str) -> dict[str, Any]:
    found: dict[str, Any] = {"tcb": tcb, "tcbDate": date, "tcbStatus": status}
    return {**found, "advisoryIDs": list(advisories)} if advisories else found
