"""REPORT_DATA is what the real client and service compute."""

from __future__ import annotations

import hashlib

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from attest.attester.binding import canonical, report_data
from attest.attester.errors import ServiceMalformed

KEY = {"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": "x" * 43, "y": "y" * 43}
PLAIN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
VALUES = st.recursive(PLAIN, lambda inner: st.dictionaries(PLAIN, inner, max_size=5), max_leaves=10)


def test_the_hash_covers_additional_evidence_nonce_and_key_in_canonical_form() -> None:
    text = (
        '{"additional-evidence":"","nonce":"N","tee-pubkey":{"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC",'
        f'"x":"{"x" * 43}","y":"{"y" * 43}"}}}}'
    )
    assert report_data("N", KEY) == hashlib.sha384(text.encode()).digest() + bytes(16)


@given(st.dictionaries(PLAIN, VALUES, max_size=6))
def test_canonical_form_is_rfc_8785_for_everything_it_accepts(value: dict[str, object]) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("value", [1, 1.5, None, True, ["a"], "\n", "é", "\x7f"])
def test_what_could_be_spelt_in_two_ways_is_refused_instead_of_hashed(value: object) -> None:
    with pytest.raises(ServiceMalformed):
        canonical({"a": value})


def test_the_service_may_choose_among_three_hashes_and_no_other() -> None:
    assert len({report_data("N", KEY, algorithm=name) for name in ("sha256", "sha384", "sha512")}) == 3
    with pytest.raises(ServiceMalformed, match="sm3"):
        report_data("N", KEY, algorithm="sm3")
