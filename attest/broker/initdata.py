"""Init-data: configuration that the host gave the guest, bound to the launch through HOST_DATA or MRCONFIGID.

The digest is over the TOML text as sent, with the algorithm the text itself names. HOST_DATA holds its first 32 bytes,
MRCONFIGID its first 48, padded with zeros (Confidential Containers, init-data specification 0.1.0).
"""

from __future__ import annotations

import hashlib

from attest.broker.errors import RequestMalformed, RequestUnsupported
from attest.broker.protocol import InitData
from policy.toml import TomlInvalid, strict_toml

_ALGORITHMS = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}


def init_data_digest(init_data: InitData) -> bytes:
    """The digest of this text, 32 to 64 bytes. Raises RequestMalformed and RequestUnsupported."""
    try:
        algorithm = strict_toml(init_data.body).get("algorithm")
    except TomlInvalid as exc:
        raise RequestMalformed(f"attest: init-data: {exc.message}") from None
    function = _ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None
    if function is None:
        raise RequestUnsupported(
            f"attest: init-data: algorithm {str(algorithm)[:20]!r}, want one of {', '.join(_ALGORITHMS)}"
        )
    return function(init_data.body.encode()).digest()
