"""RTMRs that follow from what a guest really extended into its TPM: order and values are observed, never invented.

Source of the map: Intel, *TDX Virtual Firmware Design Guide* (344991), section 8: PCR 1 and 7 are RTMR0, PCR 2 to 6
RTMR1, PCR 8 to 15 RTMR2. PCR 0 has no register, MRTD stands for it. PCR 10 has none either: it is Linux IMA's, which
measures (at every boot with a TPM, its "boot_aggregate") into a TPM only, so nothing of it reaches a register of a TD.
RTMR3 has no PCR: the guest extends it itself, over the chip's port.
"""

from __future__ import annotations

from hashlib import sha384

from attest.emulator.errors import EmulatorError
from attest.emulator.tpm_wire import Extend

REGISTERS = 4
_RTMR_OF_PCR = {1: 0, 7: 0, **dict.fromkeys(range(2, 7), 1), **dict.fromkeys((8, 9, 11, 12, 13, 14, 15), 2)}
WATCHED = tuple(range(16))
"""PCRs that only ever grow; 16 to 23 can be reset by software and belong to no RTMR."""


class TdRegisters:
    """The four RTMRs, and the PCRs as they must be when every extend was seen."""

    def __init__(self) -> None:
        self._rtmrs = [bytes(48)] * REGISTERS
        self._pcrs = {pcr: bytes(48) for pcr in WATCHED}
        self.extends = 0

    @property
    def rtmrs(self) -> tuple[bytes, ...]:
        """RTMR0 to RTMR3, 48 bytes each."""
        return tuple(self._rtmrs)

    def observe(self, extend: Extend) -> None:
        """A PCR_Extend that the TPM has carried out."""
        if extend.pcr not in self._pcrs:
            return
        self.extends += 1
        self._pcrs[extend.pcr] = sha384(self._pcrs[extend.pcr] + extend.digest).digest()
        register = _RTMR_OF_PCR.get(extend.pcr)
        if register is not None:
            self._extend(register, extend.digest)

    def extend_rtmr3(self, digest: bytes) -> bytes:
        """The guest's own register: TDG.MR.RTMR.EXTEND of a 48-byte digest; the new value."""
        if len(digest) != 48:
            raise EmulatorError(f"RTMR3: digest of {len(digest)} bytes, want 48")
        return self._extend(3, digest)

    def check(self, pcr: int, value: bytes) -> None:
        """Raises when the TPM's own PCR is another than what was observed."""
        if self._pcrs[pcr] != value:
            raise EmulatorError(
                f"PCR {pcr}: the TPM has {value.hex()[:16]}…, the extends seen give {self._pcrs[pcr].hex()[:16]}…"
            )

    def _extend(self, register: int, digest: bytes) -> bytes:
        self._rtmrs[register] = sha384(self._rtmrs[register] + digest).digest()
        return self._rtmrs[register]
