"""What the pages say is what the records say."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from attest.audit.record import ROLES_CHANGE
from attest.broker.anomalies import Scan, anomalies
from attest.broker.proof_file import check_proof_file, parse_proof_file
from attest.broker.questions import plain_json
from attest.broker.standing import Piece, record_change
from attest.settings_collateral import CollateralSettings
from attest.store.errors import StoreUnavailable
from attest.web.dashboard.anomalies import look_ahead, look_once
from attest.web.dashboard.overview import DAYS
from tests.fakes.amd_pki import NOW, FakeAmdPki
from tests.fakes.dashboard_world import attempt, house_of, launch, machine, pages_over, value
from tests.fakes.service_world import PATH, ServiceWorld, demo_policy

from .conftest import Get, number_of


def test_the_overview_counts_every_decision_of_thirty_days(world: ServiceWorld, data: Get) -> None:
    found = data("/overview.json")
    decisions = world.records("decision")
    totals = found["decisions_by_day"]["totals"]
    assert sum(totals.values()) == len(decisions)
    assert totals["accepted"] == sum(item["verdict"] == "affirming" for item in decisions)
    assert len(found["decisions_by_day"]["days"]) == DAYS
    assert found["last_decisions"][0]["number"] == decisions[-1]["number"]


def test_the_overview_says_how_far_the_signed_checkpoint_reaches(world: ServiceWorld, data: Get) -> None:
    head = data("/overview.json")["head"]
    assert head["records"] == len(world.records())
    assert head["uncovered"] == head["records"] - head["checkpoint"]["size"] > 0
    assert any("not covered" in item["text"] for item in data("/overview.json")["attention"])


def test_a_vm_runs_as_long_as_its_token(world: ServiceWorld, data: Get) -> None:
    found = {item["name"]: item for item in data("/vms.json")["vms"]}
    assert found["shop-1"]["access"]["state"] == "in force"
    assert found["web-1"]["last"] is None
    later = pages_over(world)
    world.now += timedelta(hours=1)
    try:
        answer = later.test_client().get("/vms.json", headers={"Host": "127.0.0.1"}).json
    finally:
        world.now -= timedelta(hours=1)
    assert answer is not None
    assert {item["name"]: item for item in answer["vms"]}["shop-1"]["access"]["state"] == "ended"


def test_a_token_from_before_a_change_of_the_rules_is_not_said_to_open_anything(tmp_path: Path) -> None:
    other = ServiceWorld(tmp_path / "service")
    client = other.client()
    client.handshake()
    assert client.get(f"/resource/{PATH}").status == 200
    states = []
    for _ in range(2):
        answer = pages_over(other).test_client().get("/vms.json", headers={"Host": "127.0.0.1"}).json
        states += [item["access"]["state"] for item in (answer or {})["vms"]]
        other.policy(demo_policy() + b"# another\n")
    assert states == ["in force", "outdated"]
    assert client.get(f"/resource/{PATH}").status == 401


def test_a_reference_value_that_reached_its_end_is_not_said_to_be_in_force(world: ServiceWorld, data: Get) -> None:
    """``shop-1`` ends twelve days after the world's day."""

    def states() -> list[tuple[str, str]]:
        return [(item["name"], item["state"]) for item in data("/references.json")["references"]]

    assert states() == [("shop-1", "in force"), ("web-1", "in force"), ("shop-2", "retired")]
    world.now += timedelta(days=12)
    try:
        assert states() == [("web-1", "in force"), ("shop-2", "retired"), ("shop-1", "ended")]
        assert data("/vm.json?name=shop-1")["references"][0]["state"] == "ended"
    finally:
        world.now -= timedelta(days=12)


def test_the_vm_page_has_what_it_got(world: ServiceWorld, data: Get) -> None:
    found = data("/vm.json?name=shop-1")
    assert found["releases"]
    assert all(item["subject"] == "default/web-1/root" for item in found["releases"])
    released = [item["number"] for item in world.records("release")]
    assert [item["number"] for item in found["releases"]] == released[::-1][:50]
    assert {item["outcome"] for item in found["decisions"]} <= {"affirming", "contraindicated"}


def test_a_decision_shows_every_check_of_the_record_failures_first(world: ServiceWorld, data: Get) -> None:
    number = number_of(world, "decision", "contraindicated")
    found, record = data(f"/decisions/{number}.json"), data(f"/records/{number}.json")["record"]
    checks = record["body"]["decision"]["checks"]
    assert sorted(item["id"] for item in found["checks"]) == sorted(item["id"] for item in checks)
    assert found["checks"][0]["outcome"] == "fail"
    assert all(set(item) == {"id", "expected", "actual", "outcome", "clause"} for item in found["checks"])


def test_the_picture_names_the_input_that_differs_and_proves_the_others(world: ServiceWorld, data: Get) -> None:
    found = data(f"/decisions/{number_of(world, 'decision', 'contraindicated')}.json")["launch"]
    assert (found["reference"], found["outcome"]) == ("shop-1", "explained")
    assert [item["name"] for item in found["inputs"] if item["state"] == "differs"] == ["initrd"]
    assert [item["state"] for item in found["inputs"] if item["name"] != "initrd"] == ["same"] * 7


def test_an_accepted_launch_has_every_input_as_expected(world: ServiceWorld, data: Get) -> None:
    found = data(f"/decisions/{number_of(world, 'decision', 'affirming')}.json")
    assert {item["state"] for item in found["launch"]["inputs"]} == {"same"}
    assert found["references"] == ["shop-1"]
    assert [item["outcome"] for item in found["releases"]] == ["released"]


def test_a_launch_nobody_knows_is_not_guessed(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    world.add_reference(value("shop-1", launch()))
    attempt(world, launch(b"never registered"), machine(0))
    path = f"/decisions/{number_of(world, 'decision', 'contraindicated')}"
    client = pages_over(world).test_client()
    found = client.get(path + ".json", headers={"Host": "localhost"}).json
    assert found is not None
    assert found["launch"]["outcome"] == "unexplained"
    assert {item["state"] for item in found["launch"]["inputs"]} == {"unknown"}
    assert "? " not in found["launch"]["text"]
    assert "not known here" in client.get(path, headers={"Host": "localhost"}).text


def test_a_picture_compares_with_the_reference_values_of_its_day(world: ServiceWorld, data: Get) -> None:
    """shop-2 was registered and retired after the first refusals; they are still shown beside shop-1."""
    first = min(item["number"] for item in world.records("decision") if item["verdict"] == "contraindicated")
    assert data(f"/decisions/{first}.json")["launch"]["reference"] == "shop-1"


def test_the_policy_page_shows_the_lines_that_changed(world: ServiceWorld, data: Get) -> None:
    found = data(f"/policies/{number_of(world, 'policy-apply', 'in force')}.json")
    changed = [(line["state"], line["text"]) for line in found["lines"] if line["state"] != "same"]
    assert changed == [("removed", 'debug = "forbid"'), ("added", 'debug = "allow"  # for one evening')]
    assert found["actor"]["name"] == "olga"


def test_the_fleet_counts_chips_by_tcb(data: Get) -> None:
    found = data("/fleet.json")
    assert {item["label"]: item["count"] for item in found["tcb"]} == {
        "Genoa · bootloader 10, tee 0, snp 24, microcode 84": 2,
        "Genoa · bootloader 10, tee 0, snp 24, microcode 71": 2,
    }
    chip = data(f"/chips/{found['chips'][0]['chip']}.json")
    assert chip["decisions"][0]["number"] == found["chips"][0]["last"]["number"]


def test_every_chip_is_reached_page_by_page_and_the_pages_fit_together(
    world: ServiceWorld, data: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = data("/fleet.json")
    monkeypatch.setattr("attest.web.dashboard.chips.PAGE_SIZE", 1)
    reached, query = [], "?"
    while query:
        page = data(f"/fleet.json{query}")
        reached += page["chips"]
        assert (page["tcb"], page["total"]) == (whole["tcb"], 4), "the charts are of the whole fleet on every page"
        query = f"?asof={whole['asof']['record']}&before={page['next']}" if page["next"] else ""
    assert reached == whole["chips"]
    decided = [item for item in world.records("decision") if item["verdict"] in ("affirming", "contraindicated")]
    assert sum(chip["decisions"] for chip in reached) == len(decided)


def test_the_fleet_of_an_earlier_day_is_as_it_was_then(world: ServiceWorld, data: Get) -> None:
    day = (world.now - timedelta(days=21)).date().isoformat()
    then = data(f"/fleet.json?asof={day}")
    assert then["asof"]["time"] < day
    assert 0 < then["total"] < data("/fleet.json")["total"]
    assert all(item["last"]["time"] < day for item in then["chips"])
    assert data("/fleet.json?asof=2001-01-01")["total"] == 0
    assert data("/fleet.json?asof=1")["chips"] == []
    for odd in ("soon", "-1", "99999999999999999999", "2026-99-99"):
        assert data(f"/fleet.json?asof={odd}")["total"] == 4, odd


def test_anomalies_are_those_of_the_command_line_newest_first_and_by_kind(
    world: ServiceWorld, data: Get, client: FlaskClient
) -> None:
    found = data("/anomalies.json")
    with world.database.read() as tx:
        expected = [plain_json(hit) for hit in reversed(anomalies(tx, world.now))]
    assert expected, "the furnished world has some"
    assert found["anomalies"] == expected[:50]
    assert (found["complete"], found["upto"], found["total"]) == (True, len(world.records()), len(expected))
    kind = expected[0]["kind"]
    narrowed = data(f"/anomalies.json?kind={kind}")
    assert {hit["kind"] for hit in narrowed["anomalies"]} == {kind}
    assert narrowed["total"] == next(item["count"] for item in found["kinds"] if item["kind"] == kind)
    assert data("/anomalies.json?kind=%3Cscript%3E&from=x")["kind"] is None
    assert data("/anomalies.json?from=1")["anomalies"] == expected[1:51]


def test_a_long_log_is_looked_through_a_stretch_at_a_time(world: ServiceWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attest.web.dashboard.anomalies.LOOK_SECONDS", -1.0)
    client = pages_over(world).test_client()
    for number in (1, 2, 3):
        page = client.get("/anomalies.json", headers={"Host": "localhost"}).json
        assert page is not None
        assert (page["upto"], page["complete"]) == (number, False)
    assert "look further" in client.get("/anomalies", headers={"Host": "localhost"}).text


def test_the_log_is_looked_through_beside_the_pages_slice_by_slice(
    world: ServiceWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, size = house_of(world), len(world.records())
    monkeypatch.setattr("attest.web.dashboard.anomalies.SLICE_SECONDS", -1.0)
    slices = 1
    while not look_once(house, world.now):
        slices += 1
    assert (slices, house.scan.upto) == (size, size)
    monkeypatch.setattr("attest.web.dashboard.anomalies.SLICE_SECONDS", 60.0)
    beside = house_of(world)
    stop = look_ahead(beside, lambda: world.now)
    while beside.scan.upto < size:
        with beside.looking:
            assert beside.scan.upto <= size
    stop.set()
    monkeypatch.setattr(Scan, "advance", _unavailable)
    with pytest.raises(StoreUnavailable):
        look_once(house, world.now)


def _unavailable(*words: object) -> None:
    raise StoreUnavailable("away")


def test_endorsements_count_down_and_late_ones_are_late(tmp_path: Path) -> None:
    world, folder = ServiceWorld(tmp_path / "service"), tmp_path / "collateral"
    folder.mkdir()
    (folder / "list.crl").write_bytes(FakeAmdPki().crl(next_update=NOW + timedelta(days=3)))
    app = pages_over(world, CollateralSettings(folder=folder))

    def state() -> tuple[str, int]:
        answer = app.test_client().get("/endorsements.json", headers={"Host": "localhost"}).json
        late = app.test_client().get("/overview.json", headers={"Host": "localhost"}).json
        assert answer is not None and late is not None
        item = next(item for item in answer["items"] if item["kind"] == "list")
        return item["state"], late["collateral"]["late"]

    assert state() == ("expires-soon", 0)
    world.later(days=4)
    assert state() == ("stale", 1)


def test_a_downloaded_proof_is_checked_offline(client: FlaskClient, world: ServiceWorld) -> None:
    number = min(item["number"] for item in world.records("decision"))
    answer = client.get(f"/records/{number}/proof")
    assert answer.headers["Content-Disposition"].startswith("attachment")
    from attest.keys.log_key import load_log_key

    key = load_log_key(world.folder / "log.key", "kbs.example/audit")
    proven = check_proof_file(parse_proof_file(answer.get_data()), key.verifier)
    assert proven.repeated
    assert proven.record["seq"] == number


def test_a_record_without_a_checkpoint_over_it_has_no_proof(client: FlaskClient, world: ServiceWorld) -> None:
    answer = client.get(f"/records/{len(world.records())}/proof")
    assert answer.status_code == 404
    assert "attest audit checkpoint" in answer.text


def test_pages_of_records_reach_the_first(world: ServiceWorld, data: Get) -> None:
    seen, path = [], "/records.json"
    while True:
        found = data(path)
        seen += [item["number"] for item in found["records"]]
        if found["next"] is None:
            break
        path = f"/records.json?before={found['next']}"
    assert seen == list(range(len(world.records()), 0, -1))


@pytest.mark.parametrize("result", ["accepted", "denied", "not-genuine", "unavailable"])
def test_decisions_are_filtered_by_result(data: Get, result: str) -> None:
    assert {item["result"] for item in data(f"/decisions.json?result={result}")["decisions"]} <= {result}


def test_a_tampered_record_is_named_and_does_not_take_the_listing_down(world: ServiceWorld, tmp_path: Path) -> None:
    shutil.copytree(world.folder, tmp_path / "service")
    raw = sqlite3.connect(tmp_path / "service" / "attest.db")
    number = number_of(world, "decision", "affirming")
    raw.execute("UPDATE audit SET record = replace(CAST(record AS TEXT), '{', '{ ') WHERE seq = ?", (number,))
    raw.commit()
    raw.close()
    copy = object.__new__(ServiceWorld)
    copy.folder, copy.store, copy.now = tmp_path / "service", None, world.now
    client = pages_over(copy).test_client()
    listed = client.get("/overview", headers={"Host": "localhost"})
    assert listed.status_code == 200
    assert f"audit record {number}: not in canonical form" in listed.text
    assert client.get(f"/decisions/{number}", headers={"Host": "localhost"}).status_code == 409
    noticed = client.get("/anomalies.json?kind=altered", headers={"Host": "localhost"}).json
    assert noticed is not None
    assert [hit["numbers"] for hit in noticed["anomalies"]] == [[number]]


def test_a_database_that_is_gone_is_503_and_says_no_path(world: ServiceWorld, tmp_path: Path) -> None:
    from attest.store.engine import Database
    from attest.web.dashboard.app import create_dashboard
    from attest.web.dashboard.house import House
    from attest.web.dashboard.visitors import Visitors

    house = House(Database(tmp_path / "gone.db", read_only=True), house_of(world).collateral)
    answer = create_dashboard(house, Visitors.anybody()).test_client().get("/overview", headers={"Host": "localhost"})
    assert answer.status_code == 503
    assert "gone.db" not in answer.text


def test_a_change_of_what_the_service_stands_on_is_worth_a_look_for_a_day_and_stands_among_the_changes(
    tmp_path: Path,
) -> None:
    quiet = ServiceWorld(tmp_path / "service")
    pages, host = pages_over(quiet).test_client(), {"Host": "127.0.0.1"}
    for value_now in (1, 2):
        record_change(quiet.database, ROLES_CHANGE, {"operators": Piece({"is": value_now})}, "r1", quiet.by)

    def worth() -> list[str]:
        return [item["text"] for item in pages.get("/overview.json", headers=host).json["attention"]]

    assert [text for text in worth() if text.startswith("1 changes of roles")]
    found = pages.get("/records.json?kind=changes", headers=host).json["records"]
    assert [item["kind"] for item in found[:2]] == ["roles-change"] * 2
    assert "decision" not in {item["kind"] for item in found}
    quiet.now += timedelta(days=2)
    assert not [text for text in worth() if "changes of roles" in text]
