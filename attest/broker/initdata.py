"""Init-data that a guest sent, for `policy.initdata` to read: what is wrong with it is wrong with the request."""

from __future__ import annotations

from attest.broker.errors import RequestMalformed, RequestUnsupported
from policy.initdata import InitDataMalformed, InitDataText, InitDataUnsupported, parse_sent


def sent_init_data(text: str) -> InitDataText:
    """Digest, and who it says the VM is. Raises RequestMalformed (a guest with half a name is nobody) and
    RequestUnsupported.
    """
    try:
        return parse_sent(text)
    except InitDataUnsupported as exc:
        raise RequestUnsupported(f"attest: {exc.message}") from None
    except InitDataMalformed as exc:
        raise RequestMalformed(f"attest: {exc.message}") from None
