"""Any log that is written is read back, decoded without an error, and replays to what its digests give."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from attest.evidence import event_types as ev
from attest.evidence.event_data import decode_log
from attest.evidence.eventlog import CCEL, parse_event_log
from attest.evidence.eventlog_build import NewEvent, build_event_log
from attest.verifier.eventlog import measured_events, replay_rtmrs
from policy.measured import replay

KINDS = st.one_of(st.sampled_from(sorted(ev.TYPE_NAMES)), st.integers(0, 2**32 - 1))
EVENTS = st.builds(
    lambda mr, kind, digest, data: NewEvent(mr, kind, ((ev.SHA384, digest),), data),
    st.integers(0, 4), KINDS, st.binary(min_size=48, max_size=48), st.binary(max_size=120),
)  # fmt: skip


@given(events=st.lists(EVENTS, max_size=12), size=st.integers(0, 4096))
def test_a_written_log_is_read_back_and_replays(events: list[NewEvent], size: int) -> None:
    log = parse_event_log(build_event_log(events, size=size), CCEL)
    assert [NewEvent(item.mr, item.type, item.digests, item.data) for item in log.events] == events
    items = decode_log(log)
    assert all(item.detail.isprintable() and item.name.isprintable() for item in items)
    assert replay(measured_events(log)) == replay_rtmrs(log)
