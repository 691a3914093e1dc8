"""The event log of a TD's firmware and kernel: data of the ACPI table CCEL. Source: UEFI 2.10, section 38."""

from __future__ import annotations

from pathlib import Path

from attest.attester.errors import EvidenceUnavailable

CCEL = Path("/sys/firmware/acpi/tables/data/CCEL")
MAX_EVENT_LOG = 4 << 20


def event_log(path: Path = CCEL) -> bytes:
    """The whole log area; empty for firmware without one, which is nobody's failure. Raises EvidenceUnavailable."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_EVENT_LOG + 1)
    except FileNotFoundError:
        return b""
    except OSError as exc:
        raise EvidenceUnavailable(f"event log: {path}: {exc.strerror}") from None
