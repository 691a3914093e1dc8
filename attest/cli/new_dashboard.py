"""The dashboard's part of a new service: an authority of its own, and the table in the settings.

Guests pin the service's authority. The dashboard's certificate is not of that one, so that who takes over its process
cannot pose as the service; the auditors' authority vouches for the dashboard and for auditors, and opens no other door.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from attest.keys.authority import Credential, issue_operator, issue_server, make_authority

Write = Callable[[str, Credential], None]
_TABLE = """
[dashboard]
listen = "{listen}"         # auditors and operators: read-only pages
{login}
# oidc = true                           # bearer tokens as in [server.oidc] too; with plain = true nobody without one
# database = "postgresql://reader@host/name"   # a role that may only read
"""
_LOGIN = """\
certificate = "dashboard.pem"         # of auditor-ca.pem: what guests trust does not vouch for it
key = "dashboard.key"
auditor_ca = "auditor-ca.pem"         # client certificates of these, and of operator-ca.pem, are let in
# plain = true                        # plain HTTP without a log-in instead of these three, on a loopback address"""
_PLAIN = """\
plain = true                          # HTTP without a log-in: whoever is on this machine can read the log"""


def dashboard_table(listen: str, *, plain: bool) -> str:
    """The text to append to the settings."""
    return _TABLE.format(listen=listen, login=_PLAIN if plain else _LOGIN)


def make_dashboard(write: Write, hosts: Sequence[str], now: datetime) -> None:
    """Write ``auditor-ca``, ``dashboard`` and ``auditor``, each a certificate and a key."""
    authority = make_authority("cvm auditor CA", now)
    write("auditor-ca", authority)
    write("dashboard", issue_server(authority, hosts, now))
    write("auditor", issue_operator(authority, "auditor", now))
