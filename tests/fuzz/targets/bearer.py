"""Bearer tokens and key sets: any bytes are refused or made sense of, with our error."""

from __future__ import annotations

from datetime import UTC, datetime

from attest.settings_oidc import OidcSettings
from attest.web.oidc.errors import BearerRefused, ProviderUnavailable
from attest.web.oidc.keys import parse_key_set
from attest.web.oidc.token import verify

SETTINGS = OidcSettings("https://login.example", "attest", ("roles",), operator=("ops",))
NOW = datetime(2026, 7, 1, tzinfo=UTC)


def one(data: bytes) -> None:
    """A token, a line end, a key set; either may be empty."""
    token, _, keys = data.partition(b"\n")
    try:
        found = parse_key_set(keys)
    except ProviderUnavailable:
        found = {}
    try:
        verify(token.decode("latin-1"), SETTINGS, found.get, NOW)
    except BearerRefused:
        return
