"""TPM commands of a guest, and responses to our own."""

from __future__ import annotations

from contextlib import suppress

from attest.emulator.tpm_wire import PCR_COUNT, TpmMalformed, parse_extend, parse_pcr_read, refusal, succeeded


def one(data: bytes) -> None:
    """What parses as an extend has a PCR and a digest of the SHA-384 bank."""
    for parse in (parse_pcr_read, refusal, succeeded):
        with suppress(TpmMalformed):
            parse(data)
    try:
        found = parse_extend(data)
    except TpmMalformed:
        return
    if found is not None and (len(found.digest) != 48 or not 0 <= found.pcr < PCR_COUNT):
        raise AssertionError(f"not an extend: {found}")
