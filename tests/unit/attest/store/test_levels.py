"""The level of a decision's chip: from old records the migration reads what the program writes."""

from __future__ import annotations

from pathlib import Path

from attest.audit.chain import parse_record
from attest.audit.facts import MAX_LEVEL, Level, facts_of
from attest.store import reading, records
from attest.store.migrations.versions.m0012_levels import _level
from tests.fakes.dashboard_world import furnish

TD = {"platform": "tdx", "claims": {"mrtd": "aa", "pck": {"ppid": "ab" * 16, "fmspc": "00806f050000"},
                                    "tcb": {"status": "UpToDate"}}}  # fmt: skip


def test_the_migration_fills_in_what_a_new_record_would_say(tmp_path: Path) -> None:
    world = furnish(tmp_path / "service")
    with world.database.read() as tx:
        decisions = records.newest(tx, kind="decision")
        found = [stored.facts.level for stored in decisions]
        again = [
            _level(parse_record(stored.record, "x")["body"]) if stored.facts.chip else None for stored in decisions
        ]
        assert found == again
        assert None in found and len(set(found)) == 3
        size = len(world.records())
        assert sum(count for _, count in reading.levels(tx, size)) == len(reading.chips(tx, size, size + 1, 99))
    assert _level(TD) == facts_of("decision", "x", TD).level == "tdx · FMSPC 00806f050000 · UpToDate"


def test_a_level_is_cut_to_its_column_and_read_again() -> None:
    whole = Level("snp", "Genoa", "bootloader 10, tee 0")
    assert Level.parse(str(whole)) == whole
    assert len(str(Level("snp", "x" * 500, "y"))) == MAX_LEVEL
    assert Level.parse("snp") == Level("snp", "", "")
