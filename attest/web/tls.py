"""TLS of the listeners: forward secrecy, authenticated encryption; version 1.2 or later for guests, 1.3 where clients
show certificates.

The operators' listener demands a client certificate of the operators' authority in the handshake: who has none never
reaches HTTP, unless the settings let in bearer tokens too. Guests are not authenticated by TLS but by their evidence.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from attest.errors import AttestError

# TLS 1.3 suites are not affected by this string; all of them are acceptable.
_TLS12_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class TlsMisconfigured(AttestError):
    """A certificate or key file that cannot be used."""

    code = "tls.misconfigured"


def server_context(certificate: Path, key: Path, *client_cas: Path, demand: bool = True) -> ssl.SSLContext:
    """A context for one listener. With ``client_cas`` (PEM) clients must show a certificate issued by one of them.

    Without ``demand`` they may show none; one that does not verify still ends the handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS12_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        context.load_cert_chain(certificate, key)
        for authority in client_cas:
            context.load_verify_locations(cafile=authority)
            context.verify_mode = ssl.CERT_REQUIRED if demand else ssl.CERT_OPTIONAL
            context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
            # A resumed session is not asked for its certificate again: one that has expired since would count. Without
            # tickets TLS 1.3 resumes nothing; 1.2 would, from a cache of the process that Python cannot turn off.
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.num_tickets = 0
    except (OSError, ssl.SSLError) as exc:
        names = ", ".join(str(path) for path in (certificate, key, *client_cas))
        raise TlsMisconfigured(f"TLS files {names}: {exc}") from None
    return context
