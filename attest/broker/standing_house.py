"""The service's own: its keys by their public halves or ids, the authorities behind each role, settings that decide."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attest.broker.errors import ServiceMisconfigured
from attest.broker.service import Service
from attest.broker.standing import Inventory, Piece
from attest.keys.client_crl import ClientAuthority, client_crls_of
from attest.keys.log_key import LogKey
from attest.settings import Settings
from attest.settings_oidc import OidcSettings


def keys_inventory(service: Service, settings: Settings, log: LogKey | None) -> Inventory:
    """Token keys with the time they begin, the answer key, the log's key, ids of master keys, the TLS key.

    Raises ServiceMisconfigured for a certificate that cannot be read.
    """
    found = {
        f"token key {entry.key.kid}": Piece({"algorithm": entry.key.algorithm, "begins": entry.begins})
        for entry in service.signing_keys.entries()
    }
    found |= {
        f"master key {key_id}": Piece({"newest": key_id == service.master_keys.newest})
        for key_id in service.master_keys.ids()
    }
    found["TLS key"] = Piece({"certificates": _certificates(settings.server.certificate)})
    if service.answer_key is not None:
        found["answer key"] = Piece({"kid": service.answer_key.kid, "algorithm": service.answer_key.algorithm})
    if log is not None:
        found["log key"] = Piece({"public": log.verifier.vkey})
    return found


def roles_inventory(settings: Settings) -> Inventory:
    """Who may be what: the authorities whose certificates count, and the provider whose tokens do.

    Raises ServiceMisconfigured for a certificate that cannot be read, ClientCrlRefused for a list.
    """
    server, pages = settings.server, settings.dashboard
    clients = {"operators": server.operators, "auditors": server.auditors}
    if pages is not None:
        clients["auditors of the dashboard"] = pages.auditors
    found = {role: Piece(_client(one)) for role, one in clients.items() if one is not None}
    found |= {f"role {role.name}": Piece(asdict(role)) for role in server.roles}
    if server.oidc is not None:
        found["bearer tokens"] = Piece(_oidc(server.oidc))
        if pages is not None and pages.login is not None:
            facts = {"client": pages.login.client, "origin": pages.login.origin, "issuer": server.oidc.issuer}
            found["log-in at the dashboard"] = Piece(facts | {"session_seconds": _seconds(pages.login.life)})
    return found


def settings_inventory(settings: Settings, service: Service) -> Inventory:
    """What decides beside the policy. Addresses and paths of files do not; what the files hold is in the others."""
    collateral, pcs = settings.collateral, settings.collateral.pcs
    found: dict[str, dict[str, object]] = {
        "policy": {"signers": [name for name, _ in service.signers.keys], "signatures": service.signers.needed},
        "token": {
            "issuer": settings.issuer,
            "audience": settings.audience,
            "lifetime_seconds": _seconds(settings.token_lifetime),
            "dialect": settings.token_dialect,
        },
        "session": {"challenge_seconds": _seconds(settings.challenge_lifetime)},
        "collateral": {
            "folder": collateral.folder is not None,
            "cache": collateral.cache is not None,
            "online": collateral.online,
            "renew": collateral.renew,
            "max_crl_age_seconds": None if collateral.max_crl_age is None else _seconds(collateral.max_crl_age),
            "kds_url": collateral.kds_url,
            "intel_urls": list(pcs.urls),
            "intel_root_crl_url": pcs.root_crl_url,
            "intel_channel": pcs.channel.name,
        },
        "limits": asdict(settings.limits),
    }
    if settings.audit is not None:
        witnesses = [{"url": url, "key": key} for url, key in settings.audit.witnesses]
        found["audit"] = {"origin": settings.audit.origin, "witnesses": witnesses}
    if settings.dashboard is not None:
        found["dashboard"] = {"plain": settings.dashboard.plain, "oidc": settings.dashboard.oidc}
    return {name: Piece(facts) for name, facts in found.items()}


def _client(authority: ClientAuthority) -> dict[str, object]:
    """Without lists nothing is said of them, so that records of services without any stay what they were."""
    facts: dict[str, object] = {"authorities": _certificates(authority.ca)}
    if authority.crl is not None:
        crls = [
            {"sha256": crl.sha256.hex(), "begins": crl.begins, "ends": crl.ends, "revoked": len(crl.revoked)}
            for crl in client_crls_of(authority)
        ]
        facts["revocation_lists"] = crls
    return facts


def _oidc(found: OidcSettings) -> dict[str, object]:
    facts = asdict(found)
    facts["leeway"] = _seconds(found.leeway)
    facts["ca"] = None if found.ca is None else _certificates(found.ca)
    return facts


def _certificates(path: Path) -> list[dict[str, str]]:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise ServiceMisconfigured(f"certificates {path}: {exc}", code="tls.unreadable") from None
    return [{"subject": one.subject.rfc4514_string(), "sha256": _digest(one), "key_sha256": _key(one)} for one in found]


def _digest(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _key(certificate: x509.Certificate) -> str:
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).hexdigest()


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())
