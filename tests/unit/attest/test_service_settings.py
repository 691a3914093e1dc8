"""``attest.toml``: limits and tokens, decoded strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from attest.settings import LimitSettings, Settings, SettingsInvalid, load_settings
from tests.fakes.served import Served


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return Served(tmp_path / "service").init().config


def changed(file: Path, old: str, new: str) -> Settings:
    """The settings after one change of the text."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    return load_settings(file)


def test_a_new_service_bounds_its_queue_and_nothing_else(file: Path) -> None:
    assert load_settings(file).limits == LimitSettings(0, 0, 64)
    assert load_settings(file).token_dialect == "trustee"


def test_without_the_table_the_queue_is_bounded_all_the_same(file: Path) -> None:
    text = file.read_text()
    start, end = text.index("[limits]"), text.index("[session]")
    file.write_text(text[:start] + text[end:])
    assert load_settings(file).limits.queue == 64


def test_limits_are_read(file: Path) -> None:
    found = changed(file, "[limits]", "[limits]\naddress_per_minute = 600\nchip_per_minute = 120")
    assert found.limits == LimitSettings(600, 120, 64)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("queue = 64", "queue = 0"),
        ("queue = 64", "queue = 101"),
        ("queue = 64", 'queue = "64"'),
        ("queue = 64", "queue = 64\nchip_per_minute = -1"),
        ("queue = 64", "queue = 64\nper_minute = 5"),
        ("lifetime_seconds = 300", 'lifetime_seconds = 300\ndialect = "cwt"'),
    ],
)
def test_a_wrong_value_or_word_is_refused(file: Path, old: str, new: str) -> None:
    with pytest.raises(SettingsInvalid):
        changed(file, old, new)


def test_the_commented_lines_of_a_new_file_are_right_when_they_are_taken_out_of_the_comment(file: Path) -> None:
    text = file.read_text()
    for name in ("address_per_minute", "chip_per_minute", "dialect"):
        text = text.replace(f"# {name}", name)
    file.write_text(text)
    found = load_settings(file)
    assert (found.limits.address_per_minute, found.limits.chip_per_minute, found.token_dialect) == (600, 120, "ear")
