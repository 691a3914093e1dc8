"""Rego beside the tables: it refuses what they accept, never the reverse; where it cannot run, nothing is accepted.

The policies here are ours and read what Trustee's shipped ones read, in the shapes of its earlier and its later releases.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

import attest.broker.rego_engine as module
from attest.broker.rego_engine import UNDEFINED, Question, RegoEngine, RegoFailed, RegoUnavailable
from attest.broker.verify_trail import verify_trail
from tests.fakes.kbs_client import KbsError
from tests.fakes.service_world import GOOD, PATH, SECRET, ServiceWorld, demo_policy

pytest.importorskip("regorus")

HEAD = "package policy\nimport rego.v1\n"
# What the tables do not look at in the demo policy is looked at here, as Trustee's default policy does it.
EARLIER = (
    HEAD
    + """
default executables := 33
default hardware := 97
default configuration := 36
executables := 3 if {
  input.snp
  input.snp.measurement in query_reference_value("measurement")
}
hardware := 2 if {
  input.snp
  input.snp.reported_tcb_snp in query_reference_value("tcb_snp")
}
configuration := 2 if {
  input.snp.policy_debug_allowed == false
  input.snp.platform_smt_enabled == query_reference_value("smt")
} else := 3 if {
  input.snp.policy_debug_allowed == false
  input.snp.policy_migrate_ma == false
}
"""
)
LATER = (
    HEAD
    + """
default executables := 33
default file_system := 0
executables := 3 if input.snp.evidence.measurement in query_reference_value("measurement")
hardware := 2 if input.snp.evidence.reported_tcb.snp in query_reference_value("tcb_snp")
configuration := 2 if {
  input.snp.evidence.policy.debug_allowed == false
  input.snp.evidence.policy.migrate_ma_allowed == false
}
trust_claims := {
  "executables": executables, "hardware": hardware, "configuration": configuration, "file-system": file_system,
}
"""
)
AFFIRMING = (
    HEAD
    + """
default allow = false
allow if {
  count(input.submods) > 0
  not worse
}
worse if {
  some _, module in input.submods
  module["ear.status"] != "affirming"
}
"""
)
SUMMARY = """package policy
default allow = false
plugin = data.plugin
allow if {
  plugin == "resource"
  input.trust_context.attestation_summary.verification_result == true
}
"""


def values(**changes: Any) -> dict[str, Any]:
    return {"measurement": [GOOD.hex()], "tcb_snp": [23], **changes}


def rego(attestation: str | None = None, resource: str | None = None, reference: dict[str, Any] | None = None) -> bytes:
    """The demo policy with a table of Rego."""
    lines = ["[rego]", f"reference_values = '{json.dumps(values() if reference is None else reference)}'"]
    lines += [f"{key} = '''\n{text}'''" for key, text in (("attestation", attestation), ("resource", resource)) if text]
    return demo_policy() + ("\n" + "\n".join(lines) + "\n").encode()


@pytest.fixture
def world(tmp_path: Path) -> ServiceWorld:
    return ServiceWorld(tmp_path / "service")


def refused(world: ServiceWorld, **fields: int | bytes) -> list[str]:
    """The failed checks of a guest that is refused, as its error and its record name them."""
    guest = world.client(**fields)
    with pytest.raises(KbsError) as caught:
        guest.resource(PATH)
    assert caught.value.status == 403
    reasons = list(caught.value.information["reasons"])
    last = world.records("decision")[-1]
    assert last["verdict"] == "contraindicated", last
    return reasons


def tcb_of(world: ServiceWorld) -> int:
    """The snp part of the guests' reported TCB."""
    world.client().handshake()
    with world.database.read() as tx:
        from attest.store import records

        return int(json.loads(records.newest(tx, kind="decision")[-1].record)["body"]["claims"]["reported_tcb"]["snp"])


@pytest.mark.parametrize("policy", [EARLIER, LATER])
def test_a_policy_in_either_of_trustees_shapes_decides_by_its_reference_values(
    world: ServiceWorld, policy: str
) -> None:
    tcb = tcb_of(world)
    world.policy(rego(policy, AFFIRMING, values(tcb_snp=[tcb])))
    assert world.client().resource(PATH) == SECRET
    world.policy(rego(policy, AFFIRMING, values(tcb_snp=[tcb + 1])))
    assert refused(world) == ["rego.hardware"]
    world.policy(rego(policy, AFFIRMING, values(tcb_snp=[tcb], measurement=["77"])))
    assert refused(world) == ["rego.executables"]
    assert verify_trail(world.database).repeated >= 3


def test_what_rego_accepts_the_tables_still_refuse(world: ServiceWorld) -> None:
    yes = HEAD + "executables := 3\nhardware := 2\nconfiguration := 2\n"
    world.policy(rego(yes, HEAD + "allow := true\n"))
    assert world.client().resource(PATH) == SECRET
    assert refused(world, measurement=b"\x77" * 48) == ["measurement"]


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("executables := 3\nhardware := 2\n", ["rego.configuration"]),
        ("executables := 32\nhardware := 2\nconfiguration := 2\n", ["rego.executables"]),
        ("executables := 3\nhardware := 97\nconfiguration := 2\n", ["rego.hardware"]),
        ("executables := 0\nhardware := 2\nconfiguration := 2\n", ["rego.executables"]),
        ("executables := -1\nhardware := 2\nconfiguration := 2\n", ["rego.executables"]),
        ('executables := "3"\nhardware := 2\nconfiguration := 2\n', ["rego.executables"]),
        ("executables := true\nhardware := 2\nconfiguration := 2\n", ["rego.executables"]),
        ("executables := 2.5\nhardware := 2\nconfiguration := 2\n", ["rego.executables"]),
        ("executables := 3\nhardware := 2\nconfiguration := 2\nfile_system := 96\n", ["rego.file-system"]),
        ("trust_claims := 7\n", ["rego.executables", "rego.hardware", "rego.configuration"]),
        ("allow := true\n", ["rego.executables", "rego.hardware", "rego.configuration"]),
        ("executables := 3 if { 1 / 0 == 1 }\nhardware := 2\nconfiguration := 2\n", ["rego.evaluation"]),
        ("executables := \n", ["rego.evaluation"]),
    ],
)
def test_whatever_is_not_an_affirming_answer_refuses(world: ServiceWorld, text: str, failed: list[str]) -> None:
    world.policy(rego(HEAD + text))
    assert refused(world) == failed


@pytest.mark.parametrize(
    ("policy", "allowed"),
    [
        (AFFIRMING, True),
        (SUMMARY, True),
        (HEAD + 'allow if data["resource-path"] == ["default", "web-1", "root"]\n', True),
        (HEAD + 'allow if data["resource-path"][1] == "db-1"\n', False),
        (HEAD + 'allow if input.submods.cpu0["ear.veraison.annotated-evidence"].cvm.emulated\n', True),
        (HEAD + 'allow if not input.submods.cpu0["ear.veraison.annotated-evidence"].sample\n', True),
        (HEAD + "allow := false\n", False),
        (HEAD + 'allow := "true"\n', False),
        (HEAD + "allow := 1\n", False),
        (HEAD + "allowed := true\n", False),
        (HEAD + "allow := 1 / 0\n", False),
    ],
)
def test_a_resource_policy_releases_by_saying_true_and_in_no_other_way(
    world: ServiceWorld, policy: str, allowed: bool
) -> None:
    world.policy(rego(resource=policy))
    guest = world.client()
    if allowed:
        assert guest.resource(PATH) == SECRET
        return
    with pytest.raises(KbsError) as caught:
        guest.resource(PATH)
    assert (caught.value.status, caught.value.information["reasons"]) == (403, ["rego.resource"])
    assert "data.policy" not in caught.value.information["detail"]
    assert world.records()[-1]["kind"] == "release-refused"


def test_a_decision_from_before_the_resource_policy_releases_nothing(world: ServiceWorld) -> None:
    guest = world.client()
    guest.handshake()
    world.policy(rego(resource=HEAD + "allow := true\n"))
    assert guest.get(f"/resource/{PATH}").status == 401  # attest again
    assert guest.resource(PATH) == SECRET


def test_without_the_engine_nothing_is_accepted_and_nothing_released(
    world: ServiceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENGINE", "no_such_engine")
    monkeypatch.setattr("attest.broker.rego_judge.HERE", RegoEngine())
    world.policy(rego(resource=AFFIRMING))
    guest = world.client()
    guest.handshake()
    reply = guest.get(f"/resource/{PATH}")
    assert (reply.status, reply.json()["code"]) == (503, "rego.unavailable")
    world.policy(rego(EARLIER))
    guest = world.client()
    guest.auth()
    reply = guest.post_raw("/attest", json.dumps(guest.evidence()).encode())
    assert (reply.status, reply.json()["code"], "token" in reply.json()) == (503, "rego.unavailable", False)
    assert world.records("release") == []


def test_decisions_without_an_engine_are_no_broken_records_and_others_wait_for_one(
    world: ServiceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.policy(rego(HEAD + "executables := 3\nhardware := 2\nconfiguration := 2\n"))
    with monkeypatch.context() as without:
        without.setattr("attest.broker.rego_judge.HERE", RegoEngine())
        without.setattr(module, "ENGINE", "no_such_engine")
        with pytest.raises(KbsError):
            world.client().handshake()
    assert verify_trail(world.database).unrepeatable == 1
    world.client().handshake()
    assert verify_trail(world.database).repeated == 1
    monkeypatch.setattr("attest.broker.rego_judge.HERE", RegoEngine())
    monkeypatch.setattr(module, "ENGINE", "no_such_engine")
    with pytest.raises(RegoUnavailable, match=r"audit record \d+: cannot be decided again here"):
        verify_trail(world.database)


def ask(engine: RegoEngine, policy: str, query: str = "data.policy.allow") -> Any:
    return engine.evaluate(Question(HEAD + policy, query, {"cvm": {"reference_values": {"m": [1]}}}, {"n": 1}))


def test_the_engine_answers_and_says_when_there_is_no_answer() -> None:
    engine = RegoEngine()
    assert ask(engine, 'allow if input.n in query_reference_value("m")\n') is True
    assert ask(engine, 'allow if 2 in query_reference_value("m")\n') is UNDEFINED
    assert ask(engine, 'allow := query_reference_value("unknown")\n') is None
    with pytest.raises(RegoFailed, match="expecting expression"):
        ask(engine, "allow := \n")
    engine.close()


def test_a_policy_that_takes_too_long_or_too_much_is_stopped_and_the_next_one_runs() -> None:
    engine = RegoEngine(seconds=0.5)
    assert ask(engine, "allow := true\n") is True
    started = time.monotonic()
    with pytest.raises(RegoUnavailable, match="no answer within"):
        ask(engine, "x := numbers.range(1, 4000)\nallow := count([1 | a := x[_]; b := x[_]; a + b == 0])\n")
    assert time.monotonic() - started < 5
    with pytest.raises(RegoUnavailable, match="stopped"):
        ask(RegoEngine(seconds=20.0), "allow := count(numbers.range(1, 100000000))\n")
    assert ask(engine, "allow := true\n") is True
    engine.close()


def test_the_worker_has_no_file_and_no_environment_of_ours() -> None:
    engine = RegoEngine()
    assert ask(engine, "allow := true\n") is True
    number = engine._process.pid  # type: ignore[union-attr]
    assert Path(f"/proc/{number}/environ").read_bytes() == b"MIMALLOC_ARENA_RESERVE=65536\0"
    kinds = {os.readlink(f"/proc/{number}/fd/{name}").split(":")[0] for name in os.listdir(f"/proc/{number}/fd")}
    assert kinds <= {"socket", "/dev/null"}
    limits = Path(f"/proc/{number}/limits").read_text()
    assert "Max address space         536870912" in limits
    assert "Max open files            3" in limits
    engine.close()


def test_a_fork_has_a_worker_of_its_own() -> None:
    engine = RegoEngine()
    assert ask(engine, "allow := true\n") is True
    child = os.fork()
    if not child:
        good = ask(engine, "allow := 7\n") == 7
        engine.close()
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ask(engine, "allow := 8\n") == 8
    engine.close()


TDX = (
    HEAD
    + """
executables := 3 if {
  input.tdx.quote.body.rtmr_1 in query_reference_value("rtmr_1")
  some event in input.tdx.uefi_event_logs
  event.type_name == "EV_EFI_BOOT_SERVICES_APPLICATION"
  "File(kernel)" in event.details.device_paths
  event.digests[_].digest == query_reference_value("tdvfkernel")
} else := 4 if input.tdx.quote.body.rtmr_1 in query_reference_value("rtmr_1")
hardware := 2 if {
  input.tdx.quote.header.tee_type == "81000000"
  input.tdx.quote.header.vendor_id == "939a7233f79c4ca9940a0db3957f0607"
  input.tdx.quote.body.mr_td in query_reference_value("mr_td")
  input.tdx.tcb_status == "UpToDate"
  input.tdx.collateral_expiration_status == "0"
}
configuration := 2 if {
  input.tdx.td_attributes.debug == false
  input.tdx.quote.body.xfam in query_reference_value("xfam")
}
"""
)


def test_a_td_is_judged_by_trustees_names_for_it() -> None:
    from attest.broker.rego_judge import with_rego
    from policy.decide import decide
    from policy.document import parse_policy
    from policy.measured import MeasuredEvent
    from policy.tdx import TcbStatus, TdAttributes
    from tests.fakes.intel_claims import NOW, TD, td

    kernel = MeasuredEvent(1, 0x80000003, b"\x55" * 48, "application", "VenHw(1428F772)/File(kernel)")
    reference = {
        "rtmr_1": [TD.rtmrs[1].hex()],
        "mr_td": [TD.mrtd.hex()],
        "xfam": [int(TD.xfam).to_bytes(8, "little").hex()],
        "tdvfkernel": kernel.digest.hex(),
    }
    document = parse_policy(rego(TDX, reference=reference))

    def judged(**changes: Any) -> dict[str, str]:
        claims = td(**{"events": (kernel,), **changes})
        found = with_rego(claims, decide(claims, document, (), now=NOW), document)
        return {check.id: f"{check.actual} {check.outcome}" for check in found.checks if check.id.startswith("rego.")}

    good = {"rego.executables": "3 pass", "rego.hardware": "2 pass", "rego.configuration": "2 pass"}
    assert judged() == good
    assert judged(events=None) == good | {"rego.executables": "4 pass"}
    assert judged(tcb__status=TcbStatus.OUT_OF_DATE) == good | {"rego.hardware": "undefined fail"}
    assert judged(td_attributes=TdAttributes(1)) == good | {"rego.configuration": "undefined fail"}
