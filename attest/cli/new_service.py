"""Making the folder of a new service: keys first, the settings that name them last."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from attest.audit.record import Actor
from attest.broker.operations import By
from attest.broker.policies import apply_policy
from attest.broker.token_keys import rotate
from attest.cli.new_dashboard import dashboard_table, make_dashboard
from attest.cli.policy_file import PLACEHOLDER, raw_policy
from attest.keys.authority import Credential, issue_operator, issue_server, make_authority
from attest.keys.files import write_new, write_private
from attest.keys.log_key import make_log_key
from attest.keys.master import KEY_BYTES, load_master_keys, master_key_line
from attest.keys.signing import ES256, ES384, make_signing_key
from attest.settings import load_settings
from attest.store.engine import Database
from attest.store.errors import StoreUnavailable
from policy.errors import ConfigInvalid
from policy.secret import SecretBytes

SERVER_NAMES = ("localhost", "127.0.0.1", "10.0.2.2")
"""Always in the server's certificate; the last is how a guest on QEMU's user network sees its host."""

_SUFFIXES = (".pem", ".key", ".pub", ".pin", ".toml", ".db")
_SETTINGS = """\
# Settings of one attestation service. Paths are relative to this file. Whom to trust stands in the policy, not here.
schema = 1

[server]
listen = "{listen}"            # guests: the Confidential Containers KBS protocol
admin_listen = "{admin_listen}"      # operators: client certificate of operator-ca.pem
certificate = "server.pem"
key = "server.key"
operator_ca = "operator-ca.pem"
# auditor_ca = "auditor-ca.pem"      # certificates of this authority may read on the operators' listener, nothing else
# operator_crl = "operator-crl.pem"    # certificates they took back: attest certificate revoke; also auditor_crl
# crl_max_age_hours = 168              # lists count for so long, else until their next update; then nobody comes in
workers = 2                           # processes that serve guests, about one for each core
# threads = 4                          # of each: what they write at once is flushed to the disk once

# [server.oidc]                         # operators and auditors by bearer tokens of an OpenID provider, too
# issuer = "https://login.example/realms/ops"
# audience = "attest"
# ca = "login-ca.pem"                    # the authority of its TLS certificate, where the system does not know it
# role_claim = ["roles"]                 # where the token says what somebody may do, member by member
# operator = ["attest-operators"]        # who has one of these is an operator
# auditor = ["attest-auditors"]          # who has one of these may read; everybody else is nobody
# name_claim = "email"                   # what records call a person by; without it "sub"
# [[server.oidc.person]]                 # who has a certificate too is one person: give the token its name
# claim = "olga@example.org"
# name = "olga"

# [server.trustee_admin]                # tokens signed by kbs-client's --auth-private-key (up to 0.20) make an operator
# key = "kbs-admin.pub"
# name = "trustee-admin"                 # everybody with the key has this one name

# [[server.role]]                       # with one or more of these, an operator may do what those that name them allow
# name = "web team"
# members = ["olga"]                     # as records call them; or groups = ["kbs-web"]: values of the role claim
# may = ["keys", "approval"]             # break-glass, export, policy, reference, collateral, tokens, hosts, vms
# resources = ["default/web-*/*"]        # only these, left out: all; vms = ["web-*"] with "vms"

[store]
{store}

[keys]
master_key_file = "master.key"        # or master_key_credential = "NAME" (systemd LoadCredential=)
answer_key_file = "answer.key"        # signs answers to guests that pin it ([attestation] pins, from answer.pin)
{token_keys}

[policy]
file = "policy.toml"                  # put in force by `attest serve` and `attest policy apply`
# signers = ["alice.pub", "bob.pub"]  # PEM, Ed25519 or P-384: unsigned policies and reference values are refused
# signatures = 2                      # how many of them must have signed

[collateral]
folder = {collateral}                 # certificates and CRLs beside those that come with the evidence
cache = "collateral-cache"            # what was fetched or imported: attest collateral status
online = {online}                         # ask AMD (kdsintf.amd.com) and Intel (api.trustedservices.intel.com)
# renew = false                            # a process of the service asks again before things end; false: requests do
# kds_url = "https://kds-mirror.example"   # ask this one instead; answers are verified all the same
# max_crl_age_hours = 168                  # refuse to release when a list was last fetched longer ago
# intel_urls = ["https://pccs:8081"]       # ask these instead of Intel, in order; answers are verified all the same
# intel_ca = "pccs.pem"                    # the authority of their TLS certificates
# intel_channel = "standard"               # or "early", or an evaluation data number such as "19"
# intel_root_crl_url = "https://mirror.example/IntelSGXRootCA.der"   # where the list of Intel's root is

[audit]
origin = "{origin}"                # the audit log's name; log.pub is its public key
log_key_file = "log.key"
seen_file = "log.seen"                # what was signed last, outside the database: keep it when you restore a backup
checkpoint_seconds = 300              # the service signs one by itself this often; 0: only attest audit checkpoint does
# [[audit.witness]]                   # asked to cosign every checkpoint that is published
# url = "https://witness.example"
# key = "witness.example/w1+abcdef01+BA…"

[token]
issuer = "attest"                     # an https URL makes this an OpenID issuer: /.well-known/openid-configuration
audience = "kbs"
lifetime_seconds = 300
# key_days = 365                      # a key that has signed for so long is due: attest expiry; 0: never
# dialect = "ear"                     # names of the IETF draft instead of Trustee's

[limits]
queue = 32                            # connections that may wait for a worker; beyond it guests that begin are told 503
# address_per_minute = 600            # of one guest address; behind a balancer all guests have the balancer's
# chip_per_minute = 120               # accepted or not, of one machine whose evidence is genuine
# host_per_minute = 120               # launches that one registered host tells of

[session]
challenge_seconds = 120
"""


_KEYS_IN_FILES = """\
token_key_file = "token.key"          # or a folder of keys, which attest token rotate adds to without a restart; or
# token_keys = "database"             # every replica's: attest token rotate --after 0 makes the first"""
_KEYS_IN_DATABASE = """\
token_keys = "database"               # every replica's: attest token rotate; or token_key_file, a file or a folder"""


@dataclass(frozen=True, slots=True)
class NewService:
    """What ``attest init`` was asked for. ``database``: a PostgreSQL address, ``None`` for a SQLite file;
    ``collateral``: a folder that exists, ``None`` for a new one in ``folder``; ``dashboard``: where to serve the pages.
    """

    folder: Path
    policy: str
    emulated_root: str | None
    listen: str
    admin_listen: str
    names: tuple[str, ...]
    operator: str
    database: str | None = None
    collateral: Path | None = None
    dashboard: str | None = None
    dashboard_plain: bool = False


def make_service(new: NewService, now: datetime) -> tuple[str, ...]:
    """Make the folder's files; returns their names. An existing file of one of these names is an error."""
    policy = _policy(new)
    if new.collateral is not None and not new.collateral.is_dir():
        raise ConfigInvalid("--collateral", (f"{new.collateral}: no such folder",))
    try:
        new.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if new.collateral is None:
            (new.folder / "collateral").mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise StoreUnavailable(f"folder {new.folder}: {exc.strerror}") from None
    _certificates(new, now)
    write_private(new.folder / "master.key", master_key_line(SecretBytes(os.urandom(KEY_BYTES))))
    if new.database is None:
        make_signing_key(new.folder / "token.key")
    pin = make_signing_key(new.folder / "answer.key", ES384).kid
    write_new(new.folder / "answer.pin", f"{pin}\n".encode())
    origin = f"{new.names[0] if new.names else 'localhost'}/audit"
    log_key = make_log_key(new.folder / "log.key", origin)
    write_new(new.folder / "log.pub", f"{log_key.verifier.vkey}\n".encode())
    database = Database(new.database or new.folder / "attest.db")
    database.create()
    write_new(new.folder / "policy.toml", policy)
    by = By(Actor("local", "attest init"), now)
    apply_policy(database, policy, by)
    if new.database is not None:
        rotate(database, load_master_keys(new.folder / "master.key"), 0, ES256, timedelta(), by)
    database.close()
    online = "false" if new.emulated_root else "true"  # no maker knows an emulated chip
    store = 'path = "attest.db"' if new.database is None else f"url = {json.dumps(new.database)}"
    collateral = json.dumps(
        "collateral" if new.collateral is None else str(new.collateral.absolute()), ensure_ascii=False
    )
    settings = _SETTINGS.format(
        listen=new.listen,
        admin_listen=new.admin_listen,
        online=online,
        store=store,
        token_keys=_KEYS_IN_FILES if new.database is None else _KEYS_IN_DATABASE,
        origin=origin,
        collateral=collateral,
    )
    if new.dashboard is not None:
        settings += dashboard_table(new.dashboard, plain=new.dashboard_plain)
    write_new(new.folder / "attest.toml", settings.encode())
    load_settings(new.folder / "attest.toml")  # says at once what is wrong with the addresses
    return tuple(sorted(path.name for path in new.folder.iterdir() if path.suffix in _SUFFIXES))


def _certificates(new: NewService, now: datetime) -> None:
    guests, operators = make_authority("cvm service CA", now), make_authority("cvm operator CA", now)
    credentials = {
        "ca": guests,
        "operator-ca": operators,
        "server": issue_server(guests, tuple(dict.fromkeys((*SERVER_NAMES, *new.names))), now),
        "operator": issue_operator(operators, new.operator, now),
    }
    for name, credential in credentials.items():
        _write(new.folder, name, credential)
    if new.dashboard is not None and not new.dashboard_plain:
        make_dashboard(partial(_write, new.folder), tuple(dict.fromkeys((*SERVER_NAMES, *new.names))), now)


def _write(folder: Path, name: str, credential: Credential) -> None:
    write_private(folder / f"{name}.key", credential.key_pem())
    write_new(folder / f"{name}.pem", credential.certificate_pem())


def _policy(new: NewService) -> bytes:
    """The policy's bytes, the emulated chip's root filled in. Checked when it is applied."""
    try:
        text = raw_policy(new.policy).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ConfigInvalid(f"policy {new.policy}", (f"byte {exc.start} is not UTF-8",)) from None
    if PLACEHOLDER not in text:
        if new.emulated_root is not None:
            raise ConfigInvalid("--emulated-root", (f"policy {new.policy} trusts no emulated chip",))
        return text.encode()
    if new.emulated_root is None or not re.fullmatch(r"[0-9a-f]{64}", new.emulated_root):
        hint = "`python -m attest.emulator --state DIR --init` prints them"
        raise ConfigInvalid("--emulated-root", (f"want 64 lower-case hex digits: {hint}",))
    return text.replace(PLACEHOLDER, new.emulated_root).encode()
