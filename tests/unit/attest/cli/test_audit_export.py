"""``attest audit export``: the same records three ways, and hostile text harms no reader."""

from __future__ import annotations

import csv
import io
import json
import re
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from attest.audit.record import Actor, Event
from attest.broker.trail import append
from attest.cli.audit_export import COLUMNS, cell
from attest.store import records
from tests.fakes.kbs_client import KbsError
from tests.fakes.served import Done, Served
from tests.fakes.service_world import OTHER, PATH, ServiceWorld

HOSTILE = "=cmd|' /C calc'!A0\n<script>alert(1)</script>\x1b[2J\u202egnp"


@pytest.fixture
def world(tmp_path: Path) -> tuple[ServiceWorld, Served]:
    served = Served(tmp_path / "service").init()
    found = ServiceWorld(tmp_path / "world")
    served.config.write_text(served.config.read_text().replace('"attest.db"', '"../world/attest.db"'))
    found.client().resource(str(PATH))
    with suppress(KbsError):
        found.client(measurement=OTHER).resource(str(PATH))
    with found.database.write() as tx:
        append(tx, Event(found.by.now, "launch", HOSTILE, HOSTILE, Actor("host", HOSTILE), {"vm": HOSTILE}))
    return found, served


def export(served: Served, kind: str, path: Path, *words: str) -> Done:
    return served.attest("audit", "export", "--format", kind, "-o", str(path), *words)


def test_json_has_every_record_whole(world: tuple[ServiceWorld, Served], tmp_path: Path) -> None:
    found, served = world
    assert export(served, "json", tmp_path / "a.json").code == 0
    with found.database.read() as tx:
        wanted = [(stored.sha256.hex(), json.loads(stored.record)) for stored in records.stream(tx)]
    assert len(wanted) == 7
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["schema"] == "attest.audit.export/1"
    assert [(entry["sha256"], entry["record"]) for entry in document["records"]] == wanted


def test_csv_has_a_row_for_each_record_and_no_cell_is_a_formula(
    world: tuple[ServiceWorld, Served], tmp_path: Path
) -> None:
    found, served = world
    assert export(served, "csv", tmp_path / "a.csv").code == 0
    data = (tmp_path / "a.csv").read_bytes().decode()
    head, *rows = csv.reader(io.StringIO(data, newline=""))
    assert tuple(head) == COLUMNS
    assert [row[0] for row in rows] == [str(record["number"]) for record in found.records()]
    assert data.count("\r\n") == len(rows) + 1
    assert rows[-1][4].startswith("'=cmd")
    assert "\x1b" not in data
    assert not any(item.startswith(("=", "+", "-", "@")) for row in rows for item in row)


@pytest.mark.parametrize("value", ["=1", "+1", "-1", "@a", " =1", "\uff1d1", "\t=1", "\r=1"])
def test_what_begins_like_a_formula_is_only_text(value: str) -> None:
    assert cell(value)[0] in "'\\"


def test_the_page_lets_nothing_out_and_loads_nothing(world: tuple[ServiceWorld, Served], tmp_path: Path) -> None:
    _, served = world
    assert export(served, "html", tmp_path / "a.html").code == 0
    page = (tmp_path / "a.html").read_text()
    assert "default-src 'none'; style-src 'sha256-" in page
    assert "<script" not in page
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", page)
    assert r"&lt;script&gt;alert(1)&lt;/script&gt;\x1b[2J\u202egnp" in page
    assert 'class="days"' in page
    assert "1 accepted, 1 denied by policy" in page
    assert not re.search(r"(src|href)=", page.split("</style>")[1])


def test_filters_are_those_of_the_list(world: tuple[ServiceWorld, Served], tmp_path: Path) -> None:
    _, served = world
    assert export(served, "json", tmp_path / "a.json", "--kind", "release").code == 0
    assert [entry["record"]["seq"] for entry in json.loads((tmp_path / "a.json").read_text())["records"]] == [5]
    for kind in ("json", "csv", "html"):
        done = export(served, kind, tmp_path / f"none.{kind}", "--until", "2020-01-01", "--json")
        assert json.loads(done.out)["records"] == 0


@pytest.mark.parametrize("kind", ["json", "csv", "html"])
def test_an_altered_record_stops_the_export_and_leaves_no_file(
    world: tuple[ServiceWorld, Served], tmp_path: Path, kind: str
) -> None:
    found, served = world
    with found.database.write() as tx:
        tx.execute(text("UPDATE audit SET record = :record WHERE seq = 5"), {"record": b'{"broken'})
    done = export(served, kind, tmp_path / "out", "--json")
    assert done.code == 6, done.err
    assert not list(tmp_path.glob("*out*"))


def test_a_file_that_cannot_be_written_is_named(world: tuple[ServiceWorld, Served], tmp_path: Path) -> None:
    _, served = world
    done = export(served, "csv", tmp_path / "none" / "a.csv")
    assert done.code == 3
    assert "a.csv" in done.err


def answer(served: Served, kind: str, path: Path, *question: str) -> Done:
    return served.attest("audit", "ask", *question, "--format", kind, "-o", str(path))


def test_an_answer_is_written_the_same_three_ways(world: tuple[ServiceWorld, Served], tmp_path: Path) -> None:
    _, served = world
    for kind in ("json", "csv", "html"):
        assert answer(served, kind, tmp_path / f"a.{kind}", "releases", str(PATH)).code == 0
    document = json.loads((tmp_path / "a.json").read_text())
    (found,) = document["answer"]
    head, row = csv.reader(io.StringIO((tmp_path / "a.csv").read_bytes().decode(), newline=""))
    assert head == list(found)
    assert dict(zip(head, row, strict=True))["chip"] == found["chip"]
    assert json.loads(dict(zip(head, row, strict=True))["tcb"]) == found["tcb"]
    page = (tmp_path / "a.html").read_text()
    assert found["chip"] in page
    assert "Audit: releases" in page
    assert "<script" not in page


def test_an_answer_that_is_hostile_or_empty_makes_a_whole_page(
    world: tuple[ServiceWorld, Served], tmp_path: Path
) -> None:
    _, served = world
    assert answer(served, "html", tmp_path / "a.html", "changes").code == 0
    page = (tmp_path / "a.html").read_text()
    assert "<script>alert" not in page
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", page)
    for kind in ("csv", "html"):
        assert answer(served, kind, tmp_path / f"none.{kind}", "releases", "a/b/c").code == 0
    assert (tmp_path / "none.html").read_text().endswith("</body></html>\n")


def test_a_format_without_a_file_is_refused(world: tuple[ServiceWorld, Served]) -> None:
    assert world[1].attest("audit", "ask", "changes", "--format", "csv").code == 3
