"""Is an answer what was asked for, and Intel's? Checked before anything is kept, and again when it is read.

    TCB info      of the TEE and the FMSPC, of the evaluation number where one was asked for; signed by a TCB signer
    QE identity   of the TEE's quoting enclave, likewise
    PCK CRL       issued and signed by the authority that was asked for, which a trusted root vouches for
    root CRL      issued and signed by a trusted root; Intel's own needs no certificate, its key is known whole

:func:`check_current` adds what only an answer has to be: current. What lies in a cache may have ended; that is the
verifier's to say. Whether a signer is revoked is its decision too, on every use.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from attest.collateral.errors import CollateralRefused
from attest.collateral.intel_wanted import IntelKind, IntelWanted, PckCa, Tee
from attest.endorsement.errors import EndorsementMissing, VerificationFailed
from attest.endorsement.intel import IntelAnchors, IntelCache, IntelChain, list_signer, tcb_signing_chains
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.intel_certificate import IntelCertificate, IntelCrl, IntelRole
from attest.evidence.intel_file import IntelFile, read_intel_file
from attest.evidence.intel_json import QE, TD_QE, QeIdentity, TcbInfo, parse_qe_identity, parse_tcb_info

_SKEW = timedelta(hours=1)
_QE_ID = {Tee.TDX: TD_QE, Tee.SGX: QE}
_ISSUER = {PckCa.PLATFORM: IntelRole.PLATFORM_CA, PckCa.PROCESSOR: IntelRole.PROCESSOR_CA}


@dataclass(frozen=True, slots=True)
class IntelItem:
    """One thing that was wanted, verified. ``root`` is ``intel`` or ``test:…``.

    ``number`` is the evaluation data number or the CRL number; ``expires`` the next update, or the signer's end where
    that comes first. ``parts``: a document as it was served, its signer, the root; or a list and, for a PCK CRL, its
    authority and the root.
    """

    wanted: IntelWanted
    root: str
    number: int
    issued: datetime
    expires: datetime
    parts: tuple[bytes, ...]
    collateral: IntelCollateral


def check_intel_answer(wanted: IntelWanted, body: bytes, chain: bytes, anchors: IntelAnchors) -> IntelItem:
    """The item in an answer; ``chain`` is PEM. Raises :class:`CollateralRefused`."""
    issuers = read_intel_file(chain)
    _not_damaged(wanted, issuers)
    if wanted.is_list:
        found = read_intel_file(body)
        _not_damaged(wanted, found)
        return _list(wanted, found.crls, (*issuers.certificates, *found.certificates), anchors)
    return _document(wanted, body, issuers.certificates, anchors)


def check_intel_parts(wanted: IntelWanted, parts: tuple[bytes, ...], anchors: IntelAnchors) -> IntelItem:
    """The same for what a cache or bundle holds. Raises :class:`CollateralRefused`."""
    try:
        certificates = [IntelCertificate.parse(part) for part in parts[1:]]
        if wanted.is_list:
            return _list(wanted, (IntelCrl.parse(parts[0]),), certificates, anchors)
    except EvidenceMalformed as exc:
        raise CollateralRefused(f"{wanted}: {exc.message}") from None
    return _document(wanted, parts[0], certificates, anchors)


def check_current(item: IntelItem, now: datetime) -> None:
    """An answer that has ended, or is of the future, is a cache's that lags or lies. Raises CollateralRefused."""
    if item.expires <= now:
        raise CollateralRefused(f"{item.wanted}: the answer was current until {item.expires:%Y-%m-%dT%H:%M:%SZ}")
    if item.issued > now + _SKEW:
        raise CollateralRefused(
            f"{item.wanted}: the answer was issued {item.issued:%Y-%m-%dT%H:%M:%SZ}, which is in the future",
            hint="is this machine's clock right?",
        )


def _not_damaged(wanted: IntelWanted, found: IntelFile) -> None:
    if found.damaged:
        raise CollateralRefused(f"{wanted}: the answer is damaged: {found.damaged[0].message}")


def _document(
    wanted: IntelWanted, body: bytes, certificates: Iterable[IntelCertificate], anchors: IntelAnchors
) -> IntelItem:
    cache = IntelCache()
    try:
        document = _parsed(wanted, body)
        chains = tcb_signing_chains(IntelCollateral.of(certificates), anchors, cache)
    except (EvidenceMalformed, EndorsementMissing, VerificationFailed) as exc:
        raise CollateralRefused(f"{wanted}: the answer does not verify: {exc.message}") from None
    signed = [
        chain for chain in chains if cache.signed_by(document.signed, document.sha256, document.signature, chain.leaf)
    ]
    if not signed:
        raise CollateralRefused(f"{wanted}: the signature verifies under no TCB signer of the issuer chain")
    chain = max(signed, key=lambda each: each.leaf.not_after)
    return IntelItem(
        wanted,
        chain.root_name,
        document.number,
        document.issued,
        min(document.next_update, *(item.not_after for item in chain.certificates)),
        (body, *(item.der for item in chain.certificates)),
        _pool(document, chain),
    )


def _pool(document: TcbInfo | QeIdentity, chain: IntelChain) -> IntelCollateral:
    if isinstance(document, TcbInfo):
        return IntelCollateral.of(chain.certificates, tcb_infos=[document])
    return IntelCollateral.of(chain.certificates, qe_identities=[document])


def _parsed(wanted: IntelWanted, body: bytes) -> TcbInfo | QeIdentity:
    document: TcbInfo | QeIdentity
    if wanted.kind is IntelKind.TCB_INFO:
        document = parse_tcb_info(body)
        want = wanted.tee.name
        if document.fmspc != wanted.fmspc:
            raise CollateralRefused(f"{wanted}: the answer is for FMSPC {document.fmspc.hex()}")
    else:
        document = parse_qe_identity(body)
        want = _QE_ID[wanted.tee]
    if document.id != want:
        raise CollateralRefused(f"{wanted}: the answer is of {document.id}, want {want}")
    asked = wanted.channel.number
    if asked is not None and document.number != asked:
        raise CollateralRefused(
            f"{wanted}: the answer is of evaluation data number {document.number}",
            hint="a cache that does not know the parameter answers with what it has: ask Intel's own service",
        )
    return document


def _list(
    wanted: IntelWanted, crls: tuple[IntelCrl, ...], certificates: Iterable[IntelCertificate], anchors: IntelAnchors
) -> IntelItem:
    if len(crls) != 1:
        raise CollateralRefused(f"{wanted}: the answer holds {len(crls)} lists, want one")
    crl = crls[0]
    role = IntelRole.ROOT if wanted.kind is IntelKind.ROOT_CRL else _ISSUER[wanted.ca]
    if crl.issuer_role is not role:
        raise CollateralRefused(f"{wanted}: the answer is a list of {crl.issuer_role.value}")
    signer = list_signer(crl, certificates, anchors)
    if signer is None:
        raise CollateralRefused(f"{wanted}: the list is signed by no {role.value} that a trusted root vouches for")
    return IntelItem(
        wanted,
        signer.root_name,
        crl.number,
        crl.this_update,
        crl.next_update,
        (crl.der, *(item.der for item in signer.certificates)),
        IntelCollateral.of(signer.certificates, [crl]),
    )
