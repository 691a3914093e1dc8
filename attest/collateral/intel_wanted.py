"""What can be asked of Intel's provisioning certification service, or of a cache of it (PCCS).

Source: Intel, *SGX and TDX Provisioning Certification Service* API v4: ``/tcb``, ``/qe/identity``, ``/pckcrl``; the
root's list is not part of it (a PCCS has it at ``/sgx/certification/v4/rootcacrl``, Intel at the distribution point
named in the root certificate).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from attest.collateral.cache import shared_lock_name
from attest.collateral.wanted import NotAskable

FMSPC_BYTES = 6
MAX_DOCUMENT, MAX_LIST = 1 << 20, 4 << 20
_MAX_NUMBER = 0xFFFF
_NAME = re.compile(
    r"(?P<kind>tcb)-(?P<tee>tdx|sgx)-(?P<fmspc>[0-9a-f]{12})-(?P<channel>standard|early|n[0-9]{1,5})"
    r"|(?P<identity>qe)-(?P<of>tdx|sgx)-(?P<at>standard|early|n[0-9]{1,5})"
    r"|pckcrl-(?P<ca>platform|processor)|(?P<root>rootcrl)-intel"
)


class IntelKind(Enum):
    """A signed document or a revocation list."""

    TCB_INFO = "tcb"
    QE_IDENTITY = "qe"
    PCK_CRL = "pckcrl"
    ROOT_CRL = "rootcrl"


class Tee(Enum):
    """Whose TCB levels, whose quoting enclave."""

    TDX = "tdx"
    SGX = "sgx"


class PckCa(Enum):
    """Which of Intel's two authorities issued a machine's PCK certificate."""

    PLATFORM = "platform"
    PROCESSOR = "processor"


@dataclass(frozen=True, slots=True)
class Channel:
    """Which evaluation of a TCB recovery: ``standard``, ``early``, or the one of ``number``."""

    update: str = "standard"
    number: int | None = None

    @classmethod
    def parse(cls, text: str) -> Channel:
        """``standard``, ``early``, or a ``tcbEvaluationDataNumber`` in decimal. Raises ValueError."""
        if text in ("standard", "early"):
            return cls(text)
        if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= _MAX_NUMBER:
            return cls("number", int(text))
        raise ValueError(f'got "{text[:40]}", want "standard", "early" or an evaluation data number')

    @property
    def name(self) -> str:
        """Part of a file name: ``standard``, ``early``, ``n19``."""
        return self.update if self.number is None else f"n{self.number}"

    @property
    def query(self) -> str:
        """What asks for it. Nothing for ``standard``, the default: old caches may not know the parameter."""
        if self.number is not None:
            return f"tcbEvaluationDataNumber={self.number}"
        return "" if self.update == "standard" else f"update={self.update}"


STANDARD = Channel()


@dataclass(frozen=True, slots=True)
class IntelWanted:
    """One thing. ``tee`` and ``channel`` count for documents, ``fmspc`` (6 bytes) for TCB info, ``ca`` for a list."""

    kind: IntelKind
    tee: Tee = Tee.TDX
    fmspc: bytes = b""
    ca: PckCa = PckCa.PLATFORM
    channel: Channel = STANDARD

    @property
    def name(self) -> str:
        """``tcb-tdx-00806f050000-standard``, ``qe-tdx-n19``, ``pckcrl-platform``, ``rootcrl-intel``."""
        return {
            IntelKind.TCB_INFO: f"tcb-{self.tee.value}-{self.fmspc.hex()}-{self.channel.name}",
            IntelKind.QE_IDENTITY: f"qe-{self.tee.value}-{self.channel.name}",
            IntelKind.PCK_CRL: f"pckcrl-{self.ca.value}",
            IntelKind.ROOT_CRL: "rootcrl-intel",
        }[self.kind]

    @property
    def lock_name(self) -> str:
        """TCB infos share 256: strangers can name many FMSPCs."""
        return shared_lock_name("tcb", self.name) if self.kind is IntelKind.TCB_INFO else self.name

    @property
    def path(self) -> str:
        """Path and query below a base URL; the one of the root's list is answered by a PCCS only."""
        base = f"/{self.tee.value}/certification/v4"
        fmspc = [f"fmspc={self.fmspc.hex().upper()}"] if self.kind is IntelKind.TCB_INFO else []
        query = "&".join([*fmspc, *filter(None, [self.channel.query])])
        return {
            IntelKind.TCB_INFO: f"{base}/tcb?{query}",
            IntelKind.QE_IDENTITY: f"{base}/qe/identity" + (f"?{query}" if query else ""),
            IntelKind.PCK_CRL: f"/sgx/certification/v4/pckcrl?ca={self.ca.value}&encoding=der",
            IntelKind.ROOT_CRL: "/sgx/certification/v4/rootcacrl",
        }[self.kind]

    @property
    def chain_headers(self) -> tuple[str, ...]:
        """The headers that may hold the issuer chain, the right one first; none for the root's list."""
        return {
            IntelKind.TCB_INFO: ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"),
            IntelKind.QE_IDENTITY: ("SGX-Enclave-Identity-Issuer-Chain",),
            IntelKind.PCK_CRL: ("SGX-PCK-CRL-Issuer-Chain",),
            IntelKind.ROOT_CRL: (),
        }[self.kind]

    @property
    def is_list(self) -> bool:
        """Whether it is a revocation list."""
        return self.kind in (IntelKind.PCK_CRL, IntelKind.ROOT_CRL)

    @property
    def max_body(self) -> int:
        """The most bytes an answer may have: hexadecimal and PEM are larger than DER."""
        return MAX_LIST if self.is_list else MAX_DOCUMENT

    def __str__(self) -> str:
        at = f" ({self.channel.name})" if self.channel != STANDARD else ""
        return {
            IntelKind.TCB_INFO: f"{self.tee.name} TCB info of FMSPC {self.fmspc.hex()}{at}",
            IntelKind.QE_IDENTITY: f"{self.tee.name} QE identity{at}",
            IntelKind.PCK_CRL: f"PCK {self.ca.value} CRL",
            IntelKind.ROOT_CRL: "Intel root CRL",
        }[self.kind]


def wanted_tcb_info(tee: Tee, fmspc: bytes, channel: Channel = STANDARD) -> IntelWanted:
    """Raises :class:`NotAskable` for an FMSPC that is not 6 bytes."""
    if len(fmspc) != FMSPC_BYTES:
        raise NotAskable(f"FMSPC: got {len(fmspc)} bytes, want {FMSPC_BYTES}")
    return IntelWanted(IntelKind.TCB_INFO, tee, fmspc, channel=channel)


def wanted_of_platform(tee: Tee, fmspc: bytes, ca: PckCa, channel: Channel = STANDARD) -> tuple[IntelWanted, ...]:
    """Everything that verifies quotes of a platform, beside the certificates in them. Raises NotAskable."""
    return (
        wanted_tcb_info(tee, fmspc, channel),
        IntelWanted(IntelKind.QE_IDENTITY, tee, channel=channel),
        IntelWanted(IntelKind.PCK_CRL, ca=ca),
        IntelWanted(IntelKind.ROOT_CRL),
    )


def intel_wanted_from_name(name: str) -> IntelWanted:
    """The inverse of :attr:`IntelWanted.name`. Raises :class:`NotAskable`."""
    match = _NAME.fullmatch(name)
    wanted = None if match is None else _wanted(match)
    if wanted is None or wanted.name != name:
        raise NotAskable(f"collateral {name[:200]!r}: not a name of a TCB info, QE identity or CRL of Intel")
    return wanted


def _wanted(match: re.Match[str]) -> IntelWanted | None:
    try:
        if match["kind"]:
            channel = Channel.parse(match["channel"].removeprefix("n"))
            return wanted_tcb_info(Tee(match["tee"]), bytes.fromhex(match["fmspc"]), channel)
        if match["identity"]:
            return IntelWanted(
                IntelKind.QE_IDENTITY, Tee(match["of"]), channel=Channel.parse(match["at"].removeprefix("n"))
            )
    except ValueError:
        return None
    if match["ca"]:
        return IntelWanted(IntelKind.PCK_CRL, ca=PckCa(match["ca"]))
    return IntelWanted(IntelKind.ROOT_CRL)
