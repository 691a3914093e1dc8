"""Init-data in guest and launcher: any bytes are a text our rules take whole, or our error; bound or not."""

from __future__ import annotations

import hashlib

from attest.attester.errors import InitDataRefused
from attest.attester.init_data import believed
from policy.initdata import InitDataMalformed, parse_init_data, write_init_data


def one(data: bytes) -> None:
    """One text: as an owner's file, and as a host's to which the launch is bound."""
    try:
        found = parse_init_data(data)
        again = parse_init_data(write_init_data(found.algorithm, found.identity))
        if again.identity != found.identity:
            raise AssertionError(f"written as {again.identity}, read as {found.identity}")
    except InitDataMalformed:
        pass
    try:
        believed(data, hashlib.sha384(data).digest())
    except InitDataRefused:
        pass
