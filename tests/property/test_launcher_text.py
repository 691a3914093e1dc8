"""Whatever arrives: a value or our own error, bounded, and nothing that could touch a terminal."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from launcher.config.sizes import parse_size, show_size
from launcher.config.vm_toml import parse_vm
from launcher.core.argv.words import word
from launcher.core.console import sign_of
from launcher.core.firmware_watch import parse_dump, parse_rip
from launcher.core.plan import make_plan
from launcher.core.progress import Kind, Progress
from launcher.core.qmp_wire import parse_message
from launcher.core.states import FAILED, REFUSED
from launcher.core.status import EVENTS, StatusEvent, parse_status_line, status_line
from launcher.core.text import ConsoleFilter, LineSplitter, safe_text
from launcher.core.timeouts import Budget
from launcher.core.words import sentence
from launcher.errors import QmpMalformed, StatusMalformed, VmConfigInvalid
from tests.fakes.vm_files import WEB_1, around

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_vm_file_or_our_error(data: bytes) -> None:
    try:
        parse_vm(data, "vm.toml")
    except VmConfigInvalid as exc:
        assert exc.problems


@given(st.integers(0, len(WEB_1) - 1), st.text(max_size=6))
def test_a_damaged_vm_file_is_a_plan_or_our_error(at: int, inserted: str) -> None:
    text = WEB_1.format(platform="sev-snp")
    at %= len(text)
    try:
        config = parse_vm((text[:at] + inserted + text[at + 1 :]).encode("utf-8", "surrogatepass"), "vm.toml")
    except VmConfigInvalid:
        return
    options = make_plan(config, around()).options
    assert all("\0" not in option for option in options)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_status_line_or_our_error(data: bytes) -> None:
    try:
        parse_status_line(data)
    except StatusMalformed:
        return


@given(st.sampled_from(sorted(EVENTS)), st.floats(0, 1e8), st.dictionaries(st.text(max_size=6), JSON, max_size=4))
def test_a_cleaned_status_line_reads_back_as_itself(event: str, time: float, detail: dict[str, Any]) -> None:
    first = status_line(StatusEvent(event, time, detail))
    try:
        once = parse_status_line(first.encode())
    except StatusMalformed:
        return  # too long, too deep, a number out of range, or a lone surrogate
    assert parse_status_line(status_line(once).encode()) == once


@given(st.binary(max_size=300))
def test_any_bytes_are_a_monitor_message_or_our_error(data: bytes) -> None:
    try:
        parse_message(data)
    except QmpMalformed:
        return


@given(st.text(max_size=200), st.integers(0, 100))
def test_safe_text_prints_and_is_bounded(text: str, limit: int) -> None:
    safe = safe_text(text, limit)
    assert safe.isprintable()
    assert len(safe) <= 10 * (limit + 1)


@given(st.lists(st.binary(max_size=60), max_size=12))
def test_lines_do_not_depend_on_how_the_bytes_arrive(pieces: list[bytes]) -> None:
    whole, parts = LineSplitter(limit=32), LineSplitter(limit=32)
    expected = whole.feed(b"".join(pieces))
    got = [line for piece in pieces for line in parts.feed(piece)]
    assert got == expected
    assert parts.pending == whole.pending
    assert all(line.isprintable() for line in got)


@given(st.lists(st.binary(max_size=60), max_size=12))
def test_the_console_filter_never_lets_an_escape_through(pieces: list[bytes]) -> None:
    shown = ConsoleFilter()
    text = b"".join(shown.feed(piece) for piece in pieces).decode("utf-8")
    assert all(char.isprintable() or char in "\r\n\t\b\a" for char in text)


@given(st.text(max_size=200))
def test_any_line_on_the_console_means_something_or_nothing(line: str) -> None:
    sign_of(line)
    parse_rip(line)
    parse_dump(line)


@given(st.text(max_size=100))
def test_a_word_in_an_option_list_stays_one_word(text: str) -> None:
    assert word(text).replace(",,", "\0").count(",") == 0
    assert word(text).replace(",,", ",") == text


@given(st.integers(1, 2**40))
def test_a_size_is_read_back_as_it_is_shown(mib: int) -> None:
    size = (mib % 2**20 + 1) << 20
    assert parse_size(show_size(size)) == size


OBSERVATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("status"), st.sampled_from(sorted(EVENTS)), st.dictionaries(st.sampled_from(["message", "text", "reasons"]), JSON)),
        st.tuples(st.just("line"), st.sampled_from(["[    0.000000] x", "cvm: attested: yes", "cvm: REFUSED x", "BdsDxe: No bootable option", "Kernel panic - not syncing: x"]), st.none()),
        st.tuples(st.just("tick"), st.integers(0, 100), st.none()),
        st.tuples(st.just("ended"), st.integers(-9, 3), st.none()),
    ),
    max_size=12,
)  # fmt: skip


@given(OBSERVATIONS, st.booleans())
def test_refused_and_failed_are_final_in_any_order_of_events(observed: list[Any], attests: bool) -> None:
    progress = Progress(Kind(attests, Budget(30, 10)))
    final = None
    for at, (kind, what, detail) in enumerate(observed):
        if kind == "status":
            progress.status(StatusEvent(what, float(at), detail), float(at))
        elif kind == "line":
            progress.line(what, float(at))
        elif kind == "tick":
            progress.tick(float(what))
        else:
            progress.qemu_ended(what, "words", float(at))
        assert final is None or progress.state == final
        if progress.state in (REFUSED, FAILED):
            final = progress.state
            assert progress.code
            assert progress.reason
    for seen in progress.events:
        text = sentence(seen)
        assert all(line.isprintable() for line in text.split("\n"))
