"""Does this event log explain these registers? One step, ``event-log``, of verifying a quote that came with a log.

     1 the log is a CCEL with SHA-384 digests; a log of another bank explains no RTMR
     2 its digests, register by register and in order, give the registers of the *signed* report; a register that the
       caller declares unlogged may differ, and then none of its events become claims
     3 each remaining event becomes a :class:`~policy.measured.MeasuredEvent`, ``proven`` where its data give its digest

A register may differ honestly when something extends it at run time and logs elsewhere: Linux's extends of RTMR2 and
RTMR3 (IMA, the ``tdx_guest`` driver) are in no CCEL. Which registers those are is a policy's decision; none by default.

Deliberately not checked here: which events there are and what they say (that is appraisal), and the digest fields of
EV_NO_ACTION and MRTD entries, which extend nothing. MRTD is compared with reference values, not replayed: the TDX
module measured it before any log existed.

Sources: Intel 344991, *TDX Virtual Firmware Design Guide*, section 8; TCG PFP 1.06, section 10.4.5.3 (StartupLocality).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from attest.endorsement.errors import STEPS, VerificationFailed
from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.event_data import DecodedEvent, decode_log
from attest.evidence.event_types import ALGORITHMS, EV_NO_ACTION, HASHES, SHA384, algorithm_name
from attest.evidence.eventlog import CCEL, TCG2, EventLog
from policy.measured import DIGEST_BYTES, REGISTERS, MeasuredEvent

STEP = "event-log"
_LOCALITY = b"StartupLocality\0"
_LOCALITIES = (0, 3, 4)


class EventLogMismatch(VerificationFailed):
    """The log does not give a register's value; ``register``, ``computed`` and ``signed`` are of the first such."""

    def __init__(self, word: str, register: int, computed: bytes, signed: bytes) -> None:
        super().__init__(
            STEP,
            f"event log: {word}{register} replays to {computed.hex()}, the signed value is {signed.hex()}",
            hint="the log is not that of this boot, was changed, or something extends the register without logging",
        )
        self.register, self.computed, self.signed = register, computed, signed

    @property
    def number(self) -> int:
        """After every other step: the registers of an unverified quote are nothing to compare with."""
        return STEPS.index(STEP) + 1 if STEP in STEPS else len(STEPS) + 1


def verify_event_log(
    log: EventLog, rtmrs: Sequence[bytes], *, unlogged_registers: frozenset[int] = frozenset()
) -> tuple[MeasuredEvent, ...]:
    """The events that the four signed ``rtmrs`` (48 bytes each) vouch for, in the log's order.

    ``unlogged_registers``: RTMRs that are extended without a log, by somebody's decision. Raises
    :class:`EventLogMismatch`, and :class:`EvidenceUnsupported` for a log that is not of a TD.
    """
    computed = replay_rtmrs(log)
    wrong = {number for number in range(REGISTERS) if computed[number] != rtmrs[number]}
    for number in sorted(wrong - unlogged_registers):
        raise EventLogMismatch("RTMR", number, computed[number], rtmrs[number])
    return tuple(event for event in measured_events(log) if event.register not in wrong)


def measured_events(log: EventLog) -> tuple[MeasuredEvent, ...]:
    """The extends of a CCEL as events, before anything is compared. Raises :class:`EvidenceUnsupported`."""
    _want_rtmr_log(log)
    return tuple(_measured(item) for item in decode_log(log, SHA384) if item.extended)


def replay_rtmrs(log: EventLog) -> tuple[bytes, ...]:
    """The four RTMRs after a CCEL: RTMR := SHA-384(RTMR || digest) from zeros. Index 0 (MRTD) extends nothing.

    Raises :class:`EvidenceUnsupported` for a log without SHA-384 digests, or of a TPM.
    """
    _want_rtmr_log(log)
    registers = [bytes(DIGEST_BYTES)] * (REGISTERS + 1)
    hash_of = hashlib.sha384
    single = len(log.algorithms) == 1
    for event in log.events:
        if event.mr and event.type != EV_NO_ACTION:
            digest = event.digests[0][1] if single else event.digest(SHA384)
            registers[event.mr] = hash_of(registers[event.mr] + digest).digest()
    return tuple(registers[1:])


def replay_pcrs(log: EventLog, algorithm: int) -> dict[int, bytes]:
    """The PCRs that a TPM log extends, in one bank, by number.

    PCR 0 starts with the locality of TPM2_Startup in its last byte where the log says so, all else from zeros. Raises
    :class:`EvidenceUnsupported` for a bank that is missing or cannot be computed here, and :class:`EvidenceMalformed`
    for a locality that is none or is stated twice.
    """
    if log.kind != TCG2:
        raise EvidenceUnsupported("event log: is a CCEL, whose registers are not PCRs")
    if algorithm not in log.algorithms or algorithm not in HASHES:
        raise EvidenceUnsupported(f"event log: no {algorithm_name(algorithm)} digests that can be replayed")
    size, name = ALGORITHMS[algorithm][1], HASHES[algorithm]
    pcrs: dict[int, bytes] = {}
    for event in log.events:
        if event.type == EV_NO_ACTION:
            continue
        before = pcrs.get(event.mr) or _first_value(log, event.mr, size)
        pcrs[event.mr] = hashlib.new(name, before + event.digest(algorithm)).digest()
    return pcrs


def verify_pcr_log(
    log: EventLog, algorithm: int, signed: Mapping[int, bytes], *, unlogged_registers: frozenset[int] = frozenset()
) -> tuple[DecodedEvent, ...]:
    """The extends that signed PCR values vouch for. A PCR the log extends and nobody signed counts as unlogged.

    Raises :class:`EventLogMismatch` and what :func:`replay_pcrs` raises.
    """
    computed = replay_pcrs(log, algorithm)
    size = ALGORITHMS[algorithm][1]
    wrong = {number for number in signed if computed.get(number, bytes(size)) != signed[number]}
    for number in sorted(wrong - unlogged_registers):
        raise EventLogMismatch("PCR", number, computed.get(number, bytes(size)), signed[number])
    vouched = signed.keys() - wrong
    return tuple(item for item in decode_log(log, algorithm) if item.extended and item.register in vouched)


def _want_rtmr_log(log: EventLog) -> None:
    if log.kind != CCEL:
        raise EvidenceUnsupported("event log: is a TPM's, want a CCEL")
    if SHA384 not in log.algorithms:
        found = ", ".join(algorithm_name(number) for number in log.algorithms)
        raise EvidenceUnsupported(f"event log: has {found} digests, want SHA-384: not the log of a TD")


def _measured(item: DecodedEvent) -> MeasuredEvent:
    return MeasuredEvent(item.register, item.event.type, item.digest, item.name, item.detail, item.proven)


def _first_value(log: EventLog, pcr: int, size: int) -> bytes:
    if pcr:
        return bytes(size)
    stated = [event.data for event in log.events if event.type == EV_NO_ACTION and event.data.startswith(_LOCALITY)]
    if not stated:
        return bytes(size)
    if len(stated) > 1 or len(stated[0]) != len(_LOCALITY) + 1 or stated[0][-1] not in _LOCALITIES:
        raise EvidenceMalformed("event log: StartupLocality, want one, with locality 0, 3 or 4")
    return stated[0][-1:].rjust(size, b"\0")
