"""REPORT_DATA of the KBS protocol."""

from __future__ import annotations

import hashlib

import pytest

from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.verifier.binding import report_data_for

EC = {"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": "eA", "y": "eQ"}


def test_the_hash_is_over_canonical_json_of_the_three_members() -> None:
    canonical = (
        '{"additional-evidence":"","nonce":"bm9uY2U","tee-pubkey":'
        '{"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC","x":"eA","y":"eQ"}}'
    )
    expected = hashlib.sha384(canonical.encode()).digest() + bytes(16)
    assert report_data_for("bm9uY2U", EC) == expected


def test_a_devices_own_binding_leaves_additional_evidence_out() -> None:
    canonical = (
        '{"nonce":"n","tee-pubkey":{"alg":"RSA-OAEP-256","e":"AQAB","kty":"RSA","n":"AA"}}'  # one line, as it is hashed
    )
    key = {"n": "AA", "kty": "RSA", "e": "AQAB", "alg": "RSA-OAEP-256"}
    assert report_data_for("n", key, None, "sha256") == hashlib.sha256(canonical.encode()).digest() + bytes(32)
    assert len(report_data_for("n", key, "{}", "sha512")) == 64


def test_members_a_client_adds_to_its_key_are_not_hashed() -> None:
    assert report_data_for("n", EC | {"kid": "x"}) == report_data_for("n", EC)


def test_every_input_changes_the_result() -> None:
    base = report_data_for("n", EC)
    assert (
        len({base, report_data_for("m", EC), report_data_for("n", EC | {"x": "eQ"}), report_data_for("n", EC, "{}")})
        == 4
    )


@pytest.mark.parametrize("key", [{}, {"kty": "OKP"}, {"kty": ["EC"]}])
def test_other_kinds_of_keys_are_unsupported(key: dict[str, object]) -> None:
    with pytest.raises(EvidenceUnsupported):
        report_data_for("n", key)


def test_an_incomplete_key_is_malformed_and_another_hash_unsupported() -> None:
    with pytest.raises(EvidenceMalformed):
        report_data_for("n", {"kty": "EC"})
    with pytest.raises(EvidenceMalformed):
        report_data_for("n", EC | {"x": "\ud800"})
    with pytest.raises(EvidenceUnsupported):
        report_data_for("n", EC, "", "md5")
