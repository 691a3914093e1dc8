"""The same verbs with ``--service``: they ask the operators' listener, and the record names who asked."""

from __future__ import annotations

import io
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attest.keys.master import load_master_keys, master_key_line
from ovmf.snp_launch import digest_from_recipe
from policy.secret import SecretBytes
from tests.fakes.kbs_client import KbsError
from tests.fakes.oidc import FakeProvider
from tests.fakes.served import Done, Served, attest_command
from tests.fakes.service_world import GOOD, PATH, PKI, SECRET, reference
from tests.unit.attest.broker.test_explain_refusal import launch, value
from tests.unit.attest.broker.test_launches import KEY, pem, signed
from tests.unit.attest.cli.test_policy_cli import STRICTER
from tests.until import until


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeProvider]:
    with FakeProvider(tmp_path_factory.mktemp("oidc")) as found:
        yield found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, provider: FakeProvider) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("served") / "service").init(PKI)
    found.config.write_text(found.config.read_text().replace("[store]", provider.toml() + "\n[store]", 1))
    (found.folder / "collateral" / "root.der").write_bytes(PKI.ark_der)  # the policy names it by digest only
    yield found.start()
    found.stop()


def over(served: Served, provider: FakeProvider, tmp_path: Path, role: str = "ops") -> list[str]:
    token = tmp_path / f"token of {role}"
    token.write_text(provider.token(sub="petra", roles=[role]))
    return [
        "--service",
        f"https://localhost:{served.admin_port}",
        "--ca",
        f"{served.folder}/ca.pem",
        "--token-file",
        str(token),
    ]


def test_keys_references_and_tokens_are_managed_over_the_service(
    served: Served, provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = over(served, provider, tmp_path)

    def good(*words: str) -> Done:
        done = attest_command(*words, *asks)
        assert done.code == 0, done.err
        return done

    with (tmp_path / "value").open("w+b") as value:
        value.write(SECRET)
        value.seek(0)
        assert PATH in good("key", "put", PATH, "--fd", str(value.fileno()), "--for", "web-1").out
    assert json.loads(good("key", "generate", "default/db-1/root", "--json").out)["version"] == 1
    assert "petra" in good("key", "list").out
    (tmp_path / "conditions.toml").write_text("per_hour = 4\n")
    good("key", "conditions", PATH, str(tmp_path / "conditions.toml"))
    assert "per_hour" in json.loads(good("key", "show", PATH, "--json").out)["conditions"]["document"]
    for words in (("disable", "--reason", "x"), ("enable", "--reason", "x"), ("break-glass", "--reason", "x")):
        good("key", words[0], PATH, *words[1:])
    good("key", "delete", "default/db-1/root")
    (tmp_path / "web-1.ref.json").write_bytes(reference())
    assert GOOD.hex() in good("reference", "add", str(tmp_path / "web-1.ref.json")).out
    assert "web-1" in good("reference", "list").out
    guest = served.guest()
    token = guest.handshake()
    assert guest.resource(PATH) == SECRET
    monkeypatch.setattr("sys.stdin", io.StringIO(token))
    found = json.loads(good("token", "introspect", "--json").out)
    assert found["active"] is True
    assert found["jti"] in good("token", "show", found["jti"]).out
    good("token", "revoke", found["jti"], "--reason", "lost")
    monkeypatch.setattr("sys.stdin", io.StringIO(token))
    assert attest_command("token", "introspect", *asks).code == 7
    good("reference", "retire", "web-1")
    changes = json.loads(served.attest("audit", "ask", "changes", "--json").out)["answer"]
    kinds = [change["kind"] for change in changes if change["actor"] == "operator:petra"]
    assert kinds == [
        "resource-put", "resource-put", "conditions-set", "resource-state", "resource-state", "break-glass",
        "resource-delete", "reference-add", "token-revoke", "reference-retire",
    ]  # fmt: skip


def test_an_auditor_may_look_and_is_told_when_a_verb_is_for_operators(
    served: Served, provider: FakeProvider, tmp_path: Path
) -> None:
    asks = over(served, provider, tmp_path, "audit")
    assert attest_command("reference", "list", *asks).code == 0
    refused = attest_command("key", "generate", "default/x/y", *asks)
    assert (refused.code != 0, "who asks is an auditor" in refused.err) == (True, True), refused.err


def test_an_upgrade_is_planned_and_ended_over_the_service(
    served: Served, provider: FakeProvider, tmp_path: Path
) -> None:
    asks = over(served, provider, tmp_path)
    for name, digest in (("app-1", b"\x31" * 48), ("app-2", b"\x32" * 48), ("app-3", b"\x33" * 48)):
        (tmp_path / f"{name}.json").write_bytes(reference(name, digest))
    assert attest_command("reference", "add", str(tmp_path / "app-1.json"), *asks).code == 0
    canary = ("--next", "app-1", "--planned", "2030-01-01", "--canary-vm", "a", "--canary-vm", "b", "--canary-chip",
              "AB" * 64, "--canary-releases", "10")  # fmt: skip
    assert attest_command("reference", "add", str(tmp_path / "app-2.json"), *canary, *asks).code == 0
    listed = json.loads(attest_command("reference", "list", "--json", *asks).out)["references"]
    stage = next(entry["stage"] for entry in listed if entry["name"] == "app-2")
    assert stage["canary"] == {
        "follows": "app-1", "planned": "2030-01-01T00:00:00+00:00", "chips": ["ab" * 64], "vms": ["a", "b"],
        "releases": 10,
    }  # fmt: skip
    promoted = attest_command("reference", "promote", "app-2", "--retire-old", "2031-01-01", *asks)
    assert (promoted.code, "app-1 retires 2031-01-01" in promoted.out) == (0, True), promoted.err
    progress = attest_command("reference", "progress", "app-2", "--json", *over(served, provider, tmp_path, "audit"))
    assert (progress.code, json.loads(progress.out)["old"]["state"]) == (0, "retiring"), progress.err
    assert json.loads(progress.out) == json.loads(served.attest("reference", "progress", "app-2", "--json").out), (
        "asked on the machine it is the same"
    )
    again = attest_command("reference", "promote", "app-2", *asks)
    assert (again.code, "in force already" in again.err) == (3, True), again.err
    for wrong in (("--planned", "2030-01-01"), ("--next", "app-1", "--canary-vm", "a,b")):
        refused = attest_command("reference", "add", str(tmp_path / "app-3.json"), *wrong, *asks)
        assert refused.code == 5, refused.err
    assert "app-3" not in attest_command("reference", "list", *asks).out


def test_a_disks_key_is_replaced_and_a_kv_secret_linked_by_operators_over_the_service(
    served: Served, provider: FakeProvider, tmp_path: Path
) -> None:
    asks, path = over(served, provider, tmp_path), "default/disk-1/root"
    assert attest_command("key", "generate", path, *asks).code == 0
    digest = "5a" * 32
    assert json.loads(attest_command("key", "luks-header", path, digest, "--json", *asks).out)["header"] == digest
    started = json.loads(attest_command("key", "rotate", path, "--bytes", "64", "--json", *asks).out)
    assert (started["version"], started["state"]) == (2, "waiting for the guest's next boot")
    ended = json.loads(attest_command("key", "rotate", path, "--abort", "--json", *asks).out)
    assert (ended["state"], ended["old_keyslot"]) == ("given up", "none")
    assert attest_command("key", "luks-header", path, "none", *asks).code == 0
    link = ("key", "link", "default/kv-1/password", "shop/db", "--field", "password")
    unknown = attest_command(*link, *asks)
    assert (unknown.code, "name no server" in unknown.err) == (3, True), unknown.err
    badly = attest_command(*link[:3], "../x", *link[4:], *asks)
    assert (badly.code, "KV path" in badly.err) == (3, True), badly.err
    refused = attest_command("key", "rotate", path, *over(served, provider, tmp_path, "audit"))
    assert (refused.code != 0, "who asks is an auditor" in refused.err) == (True, True), refused.err
    changes = json.loads(served.attest("audit", "ask", "changes", "--json").out)["answer"]
    kinds = [change["kind"] for change in changes if change["subject"] == path and change["actor"] == "operator:petra"]
    assert kinds == ["resource-put", "luks-header", "key-rotation", "key-rotation", "luks-header"]


def test_a_policy_is_tried_put_in_force_compared_and_taken_back_over_the_service(
    served: Served, provider: FakeProvider, tmp_path: Path
) -> None:
    asks, reads = over(served, provider, tmp_path), over(served, provider, tmp_path, "audit")
    stricter = str(tmp_path / "stricter.toml")
    Path(stricter).write_bytes(STRICTER)
    checked = attest_command("policy", "check", stricter, *reads)
    assert (checked.code, "the service would take it" in checked.out) == (0, True), checked.err
    assert attest_command("policy", "apply", stricter, *reads).code == 3, "auditors change nothing"
    before = json.loads(attest_command("policy", "list", "--json", *reads).out)["versions"]
    applied = attest_command("policy", "apply", stricter, *asks)
    assert (applied.code, "accepts EMULATED hardware" in applied.out) == (0, True), applied.err
    assert attest_command("policy", "show", *reads).out.encode() == STRICTER
    differ = attest_command("policy", "diff", f"v{len(before)}", stricter, *reads)
    assert (differ.code, "snp.vmpl" in differ.out) == (7, True), differ.out + differ.err
    replayed = attest_command("policy", "replay", f"v{len(before)}", "--json", *reads)
    assert (replayed.code, json.loads(replayed.out)["schema"]) == (0, "attest.policy.replay/1"), replayed.err
    assert attest_command("policy", "rollback", f"v{len(before)}", *asks).code == 0
    listed = json.loads(attest_command("policy", "list", "--json", *reads).out)["versions"]
    assert [entry["by"] for entry in listed[len(before) :]] == ["operator:petra"] * 2
    assert listed == json.loads(served.attest("policy", "list", "--json").out)["versions"]


def test_the_cache_of_a_service_is_listed_and_filled_over_it(
    served: Served, provider: FakeProvider, tmp_path: Path
) -> None:
    asks = over(served, provider, tmp_path)
    asks[asks.index("--ca")] = "--service-ca"
    chip = tmp_path / "new-machine.pem"
    chip.write_bytes(
        b"".join(ssl.DER_cert_to_PEM_cert(der).encode() for der in (PKI.leaf_der, PKI.ask_der, PKI.ark_der))
    )
    done = attest_command("collateral", "import", str(chip), *asks)
    assert (done.code, "the service: 2 items verified" in done.out) == (0, True), done.err
    listed = attest_command("collateral", "status", *asks)
    assert (listed.code, "Genoa VCEK of chip" in listed.out) == (0, True), listed.err
    fetched = attest_command("collateral", "fetch", "--product", "Genoa", *asks)
    assert (fetched.code, "AMD is not asked" in fetched.err) == (3, True), fetched.err
    changes = json.loads(served.attest("audit", "ask", "changes", "--json").out)["answer"]
    loaded = [change["actor"] for change in changes if change["kind"] == "collateral-load"]
    assert loaded == ["operator:petra"]


def test_hosts_are_registered_believed_and_retired_over_the_service(
    served: Served, provider: FakeProvider, tmp_path: Path
) -> None:
    asks, reads = over(served, provider, tmp_path), over(served, provider, tmp_path, "audit")
    key, told = tmp_path / "host.pem", tmp_path / "launch.json"
    key.write_bytes(pem(KEY))
    told.write_bytes(signed())
    assert attest_command("host", "record", str(told), *asks).code == 3, "nobody knows the host yet"
    refused = attest_command("host", "add", "h1", str(key), *reads)
    assert (refused.code, "who asks is an auditor" in refused.err) == (3, True), refused.err
    added = attest_command("host", "add", "h1", str(key), *asks)
    assert (added.code, "host h1 registered" in added.out) == (0, True), added.err
    assert attest_command("host", "add", "h2", str(key), *asks).code == 10, "one key is one host"
    assert attest_command("host", "add", "h2", str(told), *asks).code == 3, "which is no key"
    recorded = attest_command("host", "record", str(told), *asks)
    assert (recorded.code, "h1 launched" in recorded.out) == (0, True), recorded.err
    again = json.loads(attest_command("host", "record", str(told), "--json", *asks).out)
    assert (again["new"], again["host"]) == (False, "h1")
    record = json.loads(attest_command("audit", "show", str(again["record"]), "--json", *reads).out)
    assert (record["actor"]["kind"], record["body"]["received_from"]) == ("host", "operator:petra")
    assert attest_command("host", "retire", "h1", *asks).code == 0
    listed = attest_command("host", "list", "--json", *reads)
    assert json.loads(listed.out) == json.loads(served.attest("host", "list", "--json").out), listed.err
    assert "retired" in attest_command("host", "list", *reads).out
    changes = json.loads(served.attest("audit", "ask", "changes", "--json").out)["answer"]
    hosts = [change["kind"] for change in changes if change["subject"] == "h1"]
    assert hosts == ["host-add", "host-retire"]


def test_an_auditor_lists_shows_and_asks_what_is_on_record_over_the_service(
    served: Served, provider: FakeProvider, tmp_path: Path
) -> None:
    reads = over(served, provider, tmp_path, "audit")
    for words in (
        ("audit", "list", "--kind", "policy-apply", "--limit", "1", "--json"),
        ("audit", "show", "1", "--json"),
        ("audit", "show", "1"),
        ("audit", "ask", "changes", "--since", "2020-01-01"),
    ):
        there, here = attest_command(*words, *reads), served.attest(*words)
        assert (there.code, there.out) == (0, here.out), there.err
    assert attest_command("audit", "show", "999999", *reads).code == 10
    assert attest_command("audit", "list", "--limit", "1001", *reads).code == 3, "more than a request may list"
    trying = attest_command("audit", "ask", "today", "--policy", "x.toml", *reads)
    assert (trying.code, "policy in force" in trying.err) == (3, True), trying.err


def test_why_a_guest_was_refused_is_explained_over_the_service(
    served: Served, provider: FakeProvider, tmp_path: Path
) -> None:
    asks, reads = over(served, provider, tmp_path), over(served, provider, tmp_path, "audit")
    (tmp_path / "good.json").write_bytes(value("explained", launch()))
    (tmp_path / "other.json").write_bytes(value("other", launch(b"other initrd")))
    assert attest_command("reference", "add", str(tmp_path / "good.json"), *asks).code == 0
    with pytest.raises(KbsError) as caught:
        served.guest(measurement=digest_from_recipe(launch(b"other initrd"))).handshake()
    words = (
        "reference", "explain", "--decision", str(caught.value.information["decision"]), "--reference", "explained",
        "--candidate", str(tmp_path / "other.json"),
    )  # fmt: skip
    there = attest_command(*words, *reads)
    assert (there.code, "initrd" in there.out, there.out) == (0, True, served.attest(*words).out), there.err
    assert json.loads(attest_command(*words, "--json", *reads).out)["differs"] == ["initrd"]
    assert attest_command(*words[:3], "1", *reads).code == 10, "record 1 is no decision"


def test_keys_of_tokens_are_listed_ends_are_shown_and_data_keys_rewrapped_over_the_service(
    served: Served, provider: FakeProvider, tmp_path: Path
) -> None:
    asks, reads = over(served, provider, tmp_path), over(served, provider, tmp_path, "audit")
    keys = json.loads(attest_command("token", "keys", "--json", *reads).out)["keys"]
    here = json.loads(served.attest("token", "keys", "--json").out)["keys"]
    assert [(key["kid"], str(served.folder / key["file"])) for key in keys] == [(k["kid"], k["file"]) for k in here]
    ends = attest_command("expiry", "--json", "--within", "0", *reads)
    names = [item["name"] for item in json.loads(ends.out)["items"]]
    assert (ends.code, "server (server.pem)" in names) == (0, True), names
    assert attest_command("expiry", "--within", "36500", *reads).code == 10
    assert attest_command("expiry", "x.bundle", *reads).code == 3, "files of one's own are looked into here"
    assert attest_command("key", "generate", "default/wrapped/root", *asks).code == 0
    with (served.folder / "master.key").open("ab") as file:
        file.write(master_key_line(SecretBytes(b"\x42" * 32)))
    newest = load_master_keys(served.folder / "master.key").newest
    assert attest_command("key", "rewrap", *reads).code == 3, "auditors change nothing"
    done: dict[str, Any] = {}

    def rewrapped() -> bool:  # the service reads the file again within a second
        done.update(json.loads(attest_command("key", "rewrap", "--json", *asks).out))
        return bool(done["master_key"] == newest)

    until(rewrapped)
    assert done["resources"] > 0
    changes = json.loads(served.attest("audit", "ask", "changes", "--json").out)["answer"]
    assert [change["actor"] for change in changes if change["kind"] == "keys-rewrap"] == ["operator:petra"]


def test_an_answer_that_is_no_json_object_or_is_endless_is_refused_in_words(
    served: Served, provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = over(served, provider, tmp_path, "audit")
    monkeypatch.setattr("attest.cli.operator.MAX_ANSWER", 10)
    long = attest_command("key", "list", *reads)
    assert (long.code, "more than 10 bytes" in long.err) == (3, True), long.err
    monkeypatch.setattr("attest.cli.operator.ask", lambda *_: b"<html>")
    strange = attest_command("key", "list", *reads)
    assert (strange.code, "something else than a JSON object" in strange.err) == (3, True), strange.err


def test_what_was_just_recorded_is_proved_under_a_checkpoint_signed_for_it(
    served: Served, provider: FakeProvider, tmp_path: Path
) -> None:
    asks, public = over(served, provider, tmp_path, "audit"), str(served.folder / "log.pub")
    old = tmp_path / "old"
    old.write_text(attest_command("audit", "checkpoint", *asks).out)
    assert attest_command("key", "generate", "default/new/root", *over(served, provider, tmp_path)).code == 0
    newest = json.loads(attest_command("audit", "list", "--json", "--limit", "1", *asks).out)["records"][0]["number"]
    for words, said in (
        (("prove", str(newest)), f"record {newest} of localhost/audit"),
        (("prove", f"1..{newest}"), f"{newest}"),
        (("prove", "--all"), f"{newest}"),
        (("growth", str(old)), f"{newest} records"),
    ):
        proof = tmp_path / "-".join(words).replace("/", "-")
        done = attest_command("audit", *words, "-o", str(proof), *asks)
        assert done.code == 0, done.err
        checked = attest_command("audit", "verify", str(proof), "--log-key", public)
        assert (checked.code, said in checked.out) == (0, True), checked
    refused = attest_command("audit", "prove", f"{newest + 1}", "-o", str(tmp_path / "none"), *asks)
    assert (refused.code, (tmp_path / "none").exists()) == (10, False)
    many = attest_command("audit", "prove", "1..501", "-o", str(tmp_path / "none"), *asks)
    assert (many.code, "a service proves 500 at once" in many.err) == (3, True)
    old.write_text(old.read_text().replace("localhost/audit\n", "localhost/audit\n9", 1))
    assert attest_command("audit", "growth", str(old), "-o", str(tmp_path / "none"), *asks).code == 3


def test_a_refusal_has_the_services_own_code_and_hint_and_the_exit_code_of_the_verb_on_the_machine(
    served: Served, provider: FakeProvider, tmp_path: Path
) -> None:
    asks, path = over(served, provider, tmp_path), "default/approved/root"
    (tmp_path / "two.toml").write_text('approval = {need = 2, of = ["petra", "olga"]}\n')
    assert attest_command("key", "generate", path, *asks).code == 0
    assert attest_command("key", "generate", path, *asks).code == 10, "exists already"
    assert attest_command("key", "conditions", path, str(tmp_path / "two.toml"), *asks).code == 0
    out = str(tmp_path / "out")
    refused = attest_command("key", "export", path, "--reason", "x", "-o", out, "--json", *asks)
    said = json.loads(refused.err)
    hint = f"attest key approve {path} --purpose export"
    assert (refused.code, said["code"], said["hint"]) == (10, "approval.missing", hint)
    assert "given    petra\nneed     2\n" in attest_command("key", "approve", path, *asks).out
    shown = dict(line.split(maxsplit=1) for line in attest_command("key", "show", path, *asks).out.splitlines())
    assert (shown["conditions.document"], shown["approvals.1.operator"], shown["disk.headers"]) == (
        'approval = {need = 2, of = ["petra", "olga"]}', "petra", "-",
    )  # fmt: skip
