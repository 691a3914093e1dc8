"""Init-data: a text is right as a whole or not at all, and what binds it follows from its bytes."""

from __future__ import annotations

import hashlib
import json

import pytest

from attest.evidence.eventlog_json import parse_json_log
from policy.initdata import (
    MAX_BYTES,
    MAX_RESOURCES,
    Identity,
    InitDataMalformed,
    InitDataUnsupported,
    held_by,
    parse_init_data,
    parse_sent,
    rtmr3_after,
    runtime_event,
    write_init_data,
)

TEXT = """\
algorithm = "sha384"
version = "0.1.0"

[data]
"aa.toml" = "[token_configs]"
"cvm-identity.toml" = '''
vm = "web-1"
service = "shop"
resources = ["kbs:///default/web-1/root"]
'''
"""
SHOP = Identity("web-1", "shop", ("default/web-1/root",))


def test_a_text_is_read_with_its_digest_and_whom_it_names() -> None:
    found = parse_init_data(TEXT.encode())
    assert (found.text, found.algorithm, found.identity) == (TEXT, "sha384", SHOP)
    assert found.digest == hashlib.sha384(TEXT.encode()).digest() == parse_sent(TEXT).digest


@pytest.mark.parametrize("identity", [SHOP, Identity("a"), Identity(resources=()), Identity(), Identity(service="s b")])
@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_what_is_written_is_what_is_read(identity: Identity, algorithm: str) -> None:
    data = write_init_data(algorithm, identity)
    found = parse_init_data(data)
    assert (found.algorithm, found.identity) == (algorithm, identity)
    assert found.digest == hashlib.new(algorithm, data).digest()
    assert data == write_init_data(algorithm, identity)


def test_a_digest_is_cut_or_padded_to_the_field() -> None:
    digest = bytes(range(1, 49))
    assert held_by(32, digest) == digest[:32]
    assert held_by(48, digest) == digest
    assert held_by(48, digest[:32]) == digest[:32] + bytes(16)


WRONG = [
    ("no TOML", "algorithm", "", "not TOML"),
    ("another version", '"0.1.0"', '"0.2.0"', r'version .0\.2\.0., want "0\.1\.0"'),
    ("no version", 'version = "0.1.0"', "", "version 'None'"),
    ("an algorithm in the spelling of the document", '"sha384"', '"sha-384"', "algorithm 'sha-384', want one of"),
    ("a weak algorithm", '"sha384"', '"sha1"', "algorithm 'sha1', want one of"),
    ("an algorithm that is a number", '"sha384"', "384", "algorithm '384', want one of"),
    ("no data", "[data]", "[date]", "'date' is unknown"),
    ("a member besides", 'version = "0.1.0"', 'version = "0.1.0"\nvm = "x"', "'vm' is unknown"),
    ("data that are no text", '"[token_configs]"', "1", "values are texts"),
    ("an identity that is no TOML", "vm = ", "vm : ", r"cvm-identity\.toml: not TOML"),
    ("an identity with another member", "service =", "owner =", r"cvm-identity\.toml: 'owner' is unknown"),
    ("a VM without a name", '"web-1"', '""', "vm: want a name"),
    ("a VM named by a number", '"web-1"', "1", "vm: want a name"),
    ("a service with a long name", '"shop"', f'"{"s" * 129}"', "service: want a name"),
    ("resources that are no list", '["kbs:///default/web-1/root"]', '"default/web-1/root"', "resources: want a list"),
    ("a resource that climbs", "default/web-1/root", "default/../root", "resources: resource"),
]


@pytest.mark.parametrize(("old", "new", "said"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_text_with_one_thing_wrong_is_refused(old: str, new: str, said: str) -> None:
    assert old in TEXT
    with pytest.raises(InitDataMalformed, match=said):
        parse_init_data(TEXT.replace(old, new, 1).encode())


def test_too_many_resources_too_many_bytes_and_no_utf_8_are_refused() -> None:
    many = str([f"a/b/{number}" for number in range(MAX_RESOURCES + 1)])
    with pytest.raises(InitDataMalformed, match="at most 64"):
        parse_init_data(TEXT.replace('["kbs:///default/web-1/root"]', many).encode())
    with pytest.raises(InitDataMalformed, match=f"{MAX_BYTES + 1} bytes, want at most {MAX_BYTES}"):
        parse_init_data(TEXT.encode().ljust(MAX_BYTES + 1, b"\n"))
    assert parse_init_data(TEXT.encode().ljust(MAX_BYTES, b"\n")).identity == SHOP
    with pytest.raises(InitDataMalformed, match=r"byte \d+ is not UTF-8"):
        parse_init_data(TEXT.encode() + b"# \xff")


def test_an_unknown_algorithm_is_unsupported_and_an_identity_may_be_missing() -> None:
    with pytest.raises(InitDataUnsupported):
        parse_sent(TEXT.replace("sha384", "sm3"))
    assert parse_sent('algorithm = "sha256"').identity == Identity()


def test_the_event_of_rtmr3_is_one_of_dstacks_and_extends_as_such() -> None:
    register = bytes(range(48))
    event = {"imr": 3, "event_type": 0x08000001, "digest": "", "event": "init-data", "event_payload": register.hex()}
    (logged,) = parse_json_log(json.dumps([event]).encode()).events
    assert logged.data == runtime_event(register)
    assert rtmr3_after(register) == hashlib.sha384(bytes(48) + logged.digests[0][1]).digest()
