"""No parser of untrusted bytes allocates more than 64 MB: fuzz corpora, and inputs made to be expensive."""

from __future__ import annotations

import importlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from attest.evidence.event_types import SHA384
from attest.evidence.eventlog import MAX_LOG, parse_event_log
from attest.evidence.eventlog_build import NewEvent, build_event_log

BOUND = 64 << 20
FUZZ = Path(__file__).parent.parent / "fuzz"
TARGETS = (
    "snp_report", "cert_table", "hcl", "snp_json", "kbs_json", "evidence_file", "ovmf", "igvm", "amd_certificate",
    "bundle", "reference_json", "policy_toml", "vm_toml", "strict_json", "quote", "tdreport", "eventlog", "tdx_json",
    "td_evidence", "intel_json", "intel_certificate", "intel_file", "tdvf", "varstore",
)  # fmt: skip
MEGABYTE = 1 << 20
HUGE_LENGTHS = b"\xff\xff\xff\x7f" * 1024
EXPENSIVE: dict[str, bytes] = {
    "lists as deep as they go": b"[" * MEGABYTE,
    "objects as deep as they go": b'{"a":' * (MEGABYTE // 5),
    "many small lists": b"[" + b"[]," * (MEGABYTE // 3 - 2) + b"[]]",
    "one long number": b"9" * MEGABYTE,
    "one long string": b'{"quote": "' + b"A" * (4 * MEGABYTE) + b'"}',
    "huge lengths everywhere": HUGE_LENGTHS,
    "zeros of the largest size": bytes(4 * MEGABYTE),
    "a certificate of four gigabytes": b"\x30\x84\xff\xff\xff\xff" + bytes(64),
    "an indefinite certificate": b"\x30\x80" * 4096,
    "hexadecimal digits": b"30" * (2 * MEGABYTE),
    "many certificates in PEM that are none": b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
    * 60_000,
    "many DER values that are none": (b"\x30\x81\x80" + bytes(128)) * 30_000,
    "a TOML of many tables": b"[a]\n" + b"[[a.b]]\n" * 100_000,
    "a TOML of deep keys": b".".join([b"a"] * 100_000) + b" = 1",
    "a TOML of a deep table": b"[" + b".".join([b"a"] * 1000) + b"]\n" + b"a.b = 1\n" * 10_000,
    "a TOML number": b"a = 1." + b"9" * (MEGABYTE - 6),
}


def _one(name: str) -> Callable[[bytes], None]:
    target: Callable[[bytes], None] = importlib.import_module(f"tests.fuzz.targets.{name}").one
    return target


def _peak(one: Callable[[bytes], object], data: bytes) -> int:
    """Bytes allocated at the worst moment beyond what was allocated before; the input itself is not counted."""
    tracemalloc.start()
    try:
        one(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _lying(seed: bytes) -> list[bytes]:
    """The seed with one 32-bit word after another, of the first 64, turned into a huge number."""
    words = range(0, min(len(seed) - 3, 256), 4)
    return [seed[:at] + b"\xff\xff\xff\x7f" + seed[at + 4 :] for at in words]


@pytest.mark.parametrize("name", TARGETS)
def test_a_corpus_and_lying_lengths_stay_within_the_bound(name: str) -> None:
    one = _one(name)
    for path in sorted((FUZZ / "corpus" / name).iterdir()):
        seed = path.read_bytes()
        one(seed)  # what is loaded once is not the input's doing
        for data in (seed, *_lying(seed)):
            assert _peak(one, data) <= BOUND, f"{path.name}: {data[:32].hex()}"


@pytest.mark.parametrize("what", EXPENSIVE)
@pytest.mark.parametrize("name", TARGETS)
def test_expensive_inputs_stay_within_the_bound(name: str, what: str) -> None:
    assert _peak(_one(name), EXPENSIVE[what]) <= BOUND


def test_a_log_of_as_many_events_as_fit_stays_within_the_bound() -> None:
    log = build_event_log([NewEvent(1, 4, ((SHA384, bytes(48)),), b"")] * 63_000)
    assert MAX_LOG - len(log) < MEGABYTE
    assert _peak(parse_event_log, log) <= BOUND


def test_the_measurement_would_notice() -> None:
    assert _peak(lambda data: bytearray(BOUND + 1).clear(), b"") > BOUND
