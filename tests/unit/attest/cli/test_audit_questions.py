"""``attest audit ask`` and ``list``, and the same questions on the operators' listener."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.kbs_client import KbsError
from tests.fakes.served import Done, Served
from tests.fakes.service_world import GOOD, OTHER, PATH, PKI, SECRET, ServiceWorld

CHIP = PKI.chip_id.hex()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[ServiceWorld, Served]:
    """What happened in one service, under the settings of a real folder."""
    folder = tmp_path_factory.mktemp("asked")
    served = Served(folder / "service").init()
    found = ServiceWorld(folder / "world")
    served.config.write_text(served.config.read_text().replace('"attest.db"', '"../world/attest.db"'))
    found.client().resource(str(PATH))
    with suppress(KbsError):
        found.client(measurement=OTHER).resource(str(PATH))
    return found, served


def ask(served: Served, *words: str) -> Any:
    done = served.attest("audit", "ask", *words, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)["answer"]


def test_each_question_is_answered(world: tuple[ServiceWorld, Served]) -> None:
    _, served = world
    assert [item["chip"] for item in ask(served, "releases", str(PATH))] == [CHIP]
    assert [item["decisions"] for item in ask(served, "ran", GOOD.hex())] == [[4]]
    assert [item["outcome"] for item in ask(served, "chip", CHIP.upper())] == ["affirming", "contraindicated"]
    assert [item["kind"] for item in ask(served, "changes")] == ["policy-apply", "reference-add", "resource-put"]
    assert ask(served, "changes", "--until", "2020-01-01") == []
    assert [item["actor"] for item in ask(served, "who")] == ["operator:olga"]
    assert [item["kind"] for item in ask(served, "anomalies")] == ["never-registered"]
    assert ask(served, "today") == []


def test_a_policy_is_tried_on_what_was_accepted(world: tuple[ServiceWorld, Served], tmp_path: Path) -> None:
    _, served = world
    policy = tmp_path / "stricter.toml"
    policy.write_text((served.folder / "policy.toml").read_text().replace("microcode = 72", "microcode = 200"))
    (found,) = ask(served, "today", "--policy", str(policy))
    assert (found["number"], found["outcome"]) == (4, "contraindicated")


def test_an_answer_is_a_table_for_people(world: tuple[ServiceWorld, Served]) -> None:
    _, served = world
    done = served.attest("audit", "ask", "chip", CHIP)
    assert done.out.startswith("NUMBER")
    assert done.out.endswith("2 found\n")


def test_records_are_listed_by_what_they_are_about(world: tuple[ServiceWorld, Served]) -> None:
    _, served = world
    for words, numbers in (
        (("--chip", CHIP), [4, 5, 6]),
        (("--measurement", OTHER.hex()), [6]),
        (("--vm", "web-1", "--kind", "release"), [5]),
        (("--resource", str(PATH)), [3, 5]),
        (("--until", "2020-01-01"), []),
    ):
        done = served.attest("audit", "list", *words, "--json")
        assert [entry["number"] for entry in json.loads(done.out)["records"]] == numbers


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ran",), "want a MEASUREMENT"),
        (("ran", "web-1"), "want hexadecimal digits, the first 8"),
        (("who", "olga"), "want nothing"),
        (("releases", "../etc"), "resource"),
        (("who", "--since", "yesterday"), "--since: got 'yesterday'"),
    ],
)
def test_a_question_that_makes_no_sense_says_so(
    world: tuple[ServiceWorld, Served], words: tuple[str, ...], message: str
) -> None:
    done: Done = world[1].attest("audit", "ask", *words)
    assert done.code in (3, 5)
    assert message in done.err


def test_the_operators_listener_answers_the_same(world: tuple[ServiceWorld, Served]) -> None:
    found, served = world
    client = found.admin_app().test_client()
    for question, value in (("chip", CHIP), ("who", None), ("today", None), ("anomalies", None)):
        query = {} if value is None else {"value": value}
        answer = client.get(f"/cvm/v0/audit-questions/{question}", query_string=query).json
        assert answer is not None
        assert answer["answer"] == ask(served, *(word for word in (question, value) if word))
    assert client.get("/cvm/v0/audit-questions/nonsense").status_code == 400
    assert found.admin_app(None).test_client().get("/cvm/v0/audit-questions/who").status_code == 403
    assert SECRET.decode() not in json.dumps(client.get("/cvm/v0/audit-questions/changes").json)
