"""``attest policy``, as operators type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sqlalchemy import delete

from attest.broker.opening import open_service
from attest.keys.statement import SignatureRefused
from attest.settings import load_settings
from attest.store.schema import settings as facts
from tests.fakes.amd_pki import NOW
from tests.fakes.kbs_client import KbsError
from tests.fakes.served import Served, attest_command
from tests.fakes.service_world import GOOD, OTHER, PKI, ServiceWorld, demo_policy, reference

STRICTER = demo_policy().replace(b"vmpl = [0]", b"vmpl = [1]").replace(b'name = "demo"', b'name = "stricter"')


@pytest.fixture
def service(tmp_path: Path) -> Served:
    return Served(tmp_path / "service").init()


@pytest.fixture
def stricter(tmp_path: Path) -> str:
    (tmp_path / "stricter.toml").write_bytes(STRICTER)
    return str(tmp_path / "stricter.toml")


def keys(folder: Path, name: str) -> Path:
    key = Ed25519PrivateKey.generate()
    path = folder / f"{name}.key"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(public)
    return path


def demand(service: Served, *names: str, needed: int = 1) -> None:
    text = service.config.read_text()
    line = f"signers = {json.dumps([f'{name}.pub' for name in names])}\nsignatures = {needed}\n"
    service.config.write_text(text.replace("[policy]\n", f"[policy]\n{line}"))


def test_diff_names_the_rules_that_differ_and_nothing_else(service: Served, stricter: str) -> None:
    same = service.attest("policy", "diff", "v1", str(service.folder / "policy.toml"))
    assert (same.code, "demand the same" in same.out) == (0, True)
    found = service.attest("policy", "diff", "v1", stricter, "--json")
    assert found.code == 7
    assert [row["key"] for row in json.loads(found.out)["differences"]] == ["snp.vmpl"]
    text = service.attest("policy", "diff", "v1", stricter).out.splitlines()
    assert text == ["snp.vmpl", "  - privilege level 0", "  + privilege level 1"]


def test_versions_are_listed_shown_and_rolled_back_to(service: Served, stricter: str) -> None:
    before = (service.folder / "policy.toml").read_bytes()
    assert service.attest("policy", "apply", stricter).code == 0
    assert service.attest("policy", "rollback", "v1").code == 0
    assert (service.folder / "policy.toml").read_bytes() == before
    found = json.loads(service.attest("policy", "list", "--json").out)["versions"]
    assert [(item["version"], item["name"], item["rollback_to"], item["in_force"]) for item in found] == [
        (1, "demo", None, False), (2, "stricter", None, False), (3, "demo", 1, True),
    ]  # fmt: skip
    assert "demo (back to v1)" in service.attest("policy", "list").out
    assert service.attest("policy", "show", "v2").out.encode() == STRICTER
    assert service.attest("policy", "show").out.encode() == before


def test_a_version_that_never_was_is_not_found(service: Served) -> None:
    assert service.attest("policy", "rollback", "v9").code == 10
    assert service.attest("policy", "show", "v9").code == 10


def test_an_unsigned_policy_is_refused_where_keys_are_configured_and_nothing_changes(
    service: Served, stricter: str, tmp_path: Path
) -> None:
    keys(service.folder, "alice")
    demand(service, "alice")
    before = (service.folder / "policy.toml").read_bytes()
    refused = service.attest("policy", "apply", stricter)
    assert (refused.code, "signed by 0 of the operators' keys" in refused.err) == (6, True)
    assert (service.folder / "policy.toml").read_bytes() == before
    assert len(json.loads(service.attest("policy", "list", "--json").out)["versions"]) == 1


def test_a_signed_policy_is_applied_and_its_signatures_stay_with_it(service: Served, stricter: str) -> None:
    alice, bob = keys(service.folder, "alice"), keys(service.folder, "bob")
    demand(service, "alice", "bob", needed=2)
    assert attest_command("policy", "sign", stricter, "--key", str(alice)).code == 0
    assert service.attest("policy", "apply", stricter).code == 6
    assert attest_command("policy", "sign", stricter, "--key", str(bob)).code == 0
    assert service.attest("policy", "apply", stricter).code == 0
    assert (service.folder / "policy.toml.sig").exists()
    assert len(json.loads(service.attest("policy", "list", "--json").out)["versions"][1]["signed_by"]) == 2
    open_service(load_settings(service.config)).rules.current()


def test_a_rollback_to_an_unsigned_version_is_refused_where_keys_are_configured(service: Served, stricter: str) -> None:
    alice = keys(service.folder, "alice")
    demand(service, "alice")
    assert attest_command("policy", "sign", stricter, "--key", str(alice)).code == 0
    assert service.attest("policy", "apply", stricter).code == 0
    assert service.attest("policy", "rollback", "v1").code == 6
    assert (service.folder / "policy.toml").read_bytes() == STRICTER


def test_one_file_can_hold_policy_and_signatures(service: Served, stricter: str, tmp_path: Path) -> None:
    alice = keys(service.folder, "alice")
    demand(service, "alice")
    signed = tmp_path / "signed.json"
    assert attest_command("policy", "sign", stricter, "--key", str(alice), "--envelope", str(signed)).code == 0
    assert service.attest("policy", "apply", str(signed)).code == 0
    assert (service.folder / "policy.toml").read_bytes() == STRICTER


def test_whoever_writes_to_the_database_only_puts_no_policy_in_force(service: Served, stricter: str) -> None:
    alice = keys(service.folder, "alice")
    demand(service, "alice")
    assert attest_command("policy", "sign", stricter, "--key", str(alice)).code == 0
    assert service.attest("policy", "apply", stricter).code == 0
    opened = open_service(load_settings(service.config))
    with opened.database.write() as tx:
        tx.execute(delete(facts).where(facts.c.name == "policy_signature_sha256"))
    with pytest.raises(SignatureRefused):
        opened.rules.current()


def test_the_service_starts_with_the_policy_of_before_when_the_machine_stopped_between_the_two_files(
    service: Served, stricter: str
) -> None:
    """Signatures of the new policy are there, the new policy is not: what the database remembers still fits."""
    alice = keys(service.folder, "alice")
    demand(service, "alice")
    first = service.folder / "policy.toml"
    assert attest_command("policy", "sign", str(first), "--key", str(alice)).code == 0
    assert service.attest("policy", "apply", str(first)).code == 0
    assert attest_command("policy", "sign", stricter, "--key", str(alice)).code == 0
    first.with_name("policy.toml.sig").write_bytes(Path(stricter + ".sig").read_bytes())
    service.start()
    service.stop()
    assert len(json.loads(service.attest("policy", "list", "--json").out)["versions"]) == 2


def test_reference_values_are_signed_too(service: Served, tmp_path: Path) -> None:
    alice = keys(service.folder, "alice")
    demand(service, "alice")
    file = tmp_path / "web.json"
    file.write_bytes(reference())
    assert service.attest("reference", "add", str(file)).code == 6
    assert attest_command("policy", "sign", str(file), "--reference", "--key", str(alice)).code == 0
    assert service.attest("reference", "add", str(file)).code == 0


CASES = """\
schema = 1
collateral = ["collateral"]
roots = ["ark.der"]
[[case]]
name = "web boots"
evidence = "web.bin"
references = ["web.json"]
at = {at}
expect = "{expect}"
{more}
"""


def cases(tmp_path: Path, expect: str, more: str = "", digest: bytes = GOOD) -> str:
    (tmp_path / "collateral").mkdir(exist_ok=True)
    for name, der in (("ask", PKI.ask_der), ("vcek", PKI.leaf_der)):
        (tmp_path / "collateral" / f"{name}.der").write_bytes(der)
    (tmp_path / "ark.der").write_bytes(PKI.ark_der)
    (tmp_path / "web.json").write_bytes(reference())
    (tmp_path / "web.bin").write_bytes(PKI.with_(report={"measurement": digest}).raw)
    (tmp_path / "cases.toml").write_text(CASES.format(at=NOW.isoformat(), expect=expect, more=more))
    return str(tmp_path / "cases.toml")


@pytest.mark.parametrize(
    ("expect", "more", "digest", "problem"),
    [
        ("accepted", "", GOOD, None),
        ("denied", 'fails = ["measurement"]', OTHER, None),
        ("accepted", "", OTHER, "expected accepted, got denied"),
        ("denied", "", GOOD, "expected denied, got accepted"),
        ("denied", 'fails = ["snp.vmpl"]', OTHER, "expected to fail snp.vmpl; failed measurement"),
    ],
)
def test_cases_say_what_differs(tmp_path: Path, expect: str, more: str, digest: bytes, problem: str | None) -> None:
    (tmp_path / "p.toml").write_bytes(demo_policy())
    done = attest_command("policy", "test", str(tmp_path / "p.toml"), cases(tmp_path, expect, more, digest), "--json")
    found = json.loads(done.out)["cases"][0]["problem"]
    assert done.code == (0 if problem is None else 6), done
    assert found is None if problem is None else found.startswith(problem)


REGO = """
[rego]
attestation = '''
package policy
import rego.v1
executables := 3
hardware := 2 if input.snp.measurement in query_reference_value("measurement")
configuration := 2
'''
reference_values = '{"measurement": ["%s"]}'
"""


@pytest.mark.parametrize(
    ("listed", "expect", "more"), [(GOOD, "accepted", ""), (OTHER, "denied", 'fails = ["rego.hardware"]')]
)
def test_cases_are_judged_by_rego_too(tmp_path: Path, listed: bytes, expect: str, more: str) -> None:
    pytest.importorskip("regorus")
    (tmp_path / "p.toml").write_bytes(demo_policy() + (REGO % listed.hex()).encode())
    done = attest_command("policy", "test", str(tmp_path / "p.toml"), cases(tmp_path, expect, more), "--json")
    assert (done.code, json.loads(done.out)["cases"][0]["problem"]) == (0, None), done


def test_rego_is_named_by_digest_and_its_values_when_policies_are_compared(service: Served, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_bytes((service.folder / "policy.toml").read_bytes() + (REGO % "77").encode())
    done = service.attest("policy", "diff", "v1", str(tmp_path / "p.toml"), "--json")
    rows = {row["key"]: (row["old"], row["new"]) for row in json.loads(done.out)["differences"]}
    assert set(rows) == {"rego.attestation", "rego.reference_values.measurement"}
    assert rows["rego.reference_values.measurement"] == (None, '["77"]')
    assert "SHA-256" in str(rows["rego.attestation"][1])


def test_a_bad_case_file_is_exit_3_with_every_problem(tmp_path: Path) -> None:
    path = cases(tmp_path, "fine", 'fails = ["x"]\nwant = 1')
    done = attest_command("policy", "test", "strict", path)
    assert done.code == 3
    for text in ("expect", "fails", "want"):
        assert text in done.err


def test_replay_says_what_recorded_evidence_would_have_got(tmp_path: Path) -> None:
    from attest.broker.policy_replay import replay
    from policy.document import parse_policy

    world = ServiceWorld(tmp_path / "world")
    world.client().handshake()
    world.later(days=3)
    with pytest.raises(KbsError):
        world.client(measurement=OTHER).handshake()
    with world.database.read() as tx:
        found = replay(tx, parse_policy(STRICTER), NOW, world.now.replace(year=2100))
        assert [(item.before, item.after, item.fails) for item in found.decisions] == [
            ("affirming", "contraindicated", ("snp.vmpl",)),
            ("contraindicated", "contraindicated", ("snp.vmpl", "measurement")),
        ]
        assert not any(item.changed for item in replay(tx, parse_policy(demo_policy()), NOW, world.now).decisions)
        assert replay(tx, parse_policy(STRICTER), NOW.replace(year=2100), world.now.replace(year=2101)).decisions == ()
