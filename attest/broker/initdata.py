"""Init-data: configuration that the host gave the guest, bound to the launch through HOST_DATA.

The digest is over the TOML text as sent, with the algorithm the text itself names; HOST_DATA holds its first 32 bytes,
zero-padded (Confidential Containers, init-data specification 0.1.0).
"""

from __future__ import annotations

import hashlib
import tomllib

from attest.broker.errors import RequestMalformed, RequestUnsupported
from attest.broker.protocol import InitData

HOST_DATA_BYTES = 32
_ALGORITHMS = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}


def expected_host_data(init_data: InitData) -> bytes:
    """The 32 bytes HOST_DATA must hold for this text."""
    try:
        algorithm = tomllib.loads(init_data.body).get("algorithm")
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise RequestMalformed(f"attest: init-data: not TOML: {str(exc)[:200]}") from None
    function = _ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None
    if function is None:
        raise RequestUnsupported(
            f"attest: init-data: algorithm {str(algorithm)[:20]!r}, want one of {', '.join(_ALGORITHMS)}"
        )
    return function(init_data.body.encode()).digest()[:HOST_DATA_BYTES].ljust(HOST_DATA_BYTES, b"\0")
