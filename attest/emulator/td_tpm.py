"""Between QEMU and swtpm: the control channel and the data channel of QEMU's ``-tpmdev emulator``, watched.

QEMU connects to our unix socket and brings its data channel with CMD_SET_DATAFD (SCM_RIGHTS). Control commands go on to
swtpm unchanged, but for those that would put a foreign state into the TPM. TPM commands go on one at a time; every
PCR_Extend that the TPM carried out is told to :class:`attest.emulator.td_registers.TdRegisters`.
Source: swtpm, ``include/swtpm/tpm_ioctl.h``; QEMU, ``backends/tpm/tpm_emulator.c``.
"""

from __future__ import annotations

import array
import socket

from attest.emulator.errors import EmulatorError
from attest.emulator.swtpm import Swtpm
from attest.emulator.td_registers import WATCHED, TdRegisters
from attest.emulator.tpm_wire import (
    HEADER,
    MAX_COMMAND,
    parse_extend,
    parse_pcr_read,
    pcr_read,
    refusal,
    succeeded,
)

_INIT, _SET_DATAFD = 2, 16
# HASH_START, HASH_DATA, HASH_END (DRTM), STORE_VOLATILE, GET_STATEBLOB, SET_STATEBLOB (migration).
_REFUSED = frozenset((6, 7, 8, 10, 12, 13))
_FAIL = (9).to_bytes(4, "big")  # TPM_FAIL


class WatchedTpm:
    """QEMU's TPM. ``control`` is the accepted connection; ``data`` comes over it."""

    def __init__(self, swtpm: Swtpm, registers: TdRegisters) -> None:
        self._swtpm = swtpm
        self._registers = registers
        self._buffer = b""

    def control(self, connection: socket.socket) -> socket.socket | None:
        """Serve one control command; the data channel, once QEMU hands it over. Raises EOFError at the end."""
        request, passed = _receive(connection)
        command = int.from_bytes(request[:4], "big")
        if command == _SET_DATAFD:
            if len(passed) != 1:
                raise EmulatorError(f"TPM control channel: CMD_SET_DATAFD with {len(passed)} descriptors, want one")
            connection.sendall(bytes(4))
            return passed[0]
        if passed:
            raise EmulatorError(f"TPM control channel: descriptors with command {command}")
        if command in _REFUSED:
            connection.sendall(_FAIL)
            return None
        if command == _INIT and self._registers.extends:
            raise EmulatorError("TPM: started again after it has measured; a TD cannot go back")
        connection.sendall(self._swtpm.relay(request))
        return None

    def data(self, connection: socket.socket) -> None:
        """Carry out what has arrived of TPM commands. Raises EOFError at the end."""
        received = connection.recv(MAX_COMMAND)
        if not received:
            raise EOFError
        self._buffer += received
        while len(self._buffer) >= HEADER.size:
            size = HEADER.unpack_from(self._buffer)[1]
            if not HEADER.size <= size <= MAX_COMMAND:
                raise EmulatorError(f"TPM command of {size} bytes, want {HEADER.size} to {MAX_COMMAND}")
            if len(self._buffer) < size:
                return
            command, self._buffer = self._buffer[:size], self._buffer[size:]
            connection.sendall(self._execute(command))

    def check(self) -> None:
        """The TPM's PCRs are what the observed extends give; raises :class:`EmulatorError`."""
        for pcr in WATCHED:
            self._registers.check(pcr, parse_pcr_read(self._swtpm.execute(pcr_read(pcr))))

    def _execute(self, command: bytes) -> bytes:
        refused = refusal(command)
        if refused is not None:
            return refused
        response = self._swtpm.execute(command)
        if succeeded(response):
            extend = parse_extend(command)
            if extend is not None:
                self._registers.observe(extend)
        return response


def _receive(connection: socket.socket) -> tuple[bytes, list[socket.socket]]:
    """One request: QEMU writes each in one piece and waits for the answer."""
    numbers = array.array("i")
    data, ancillary, flags, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(numbers.itemsize * 4))
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    passed = [socket.socket(fileno=number) for number in numbers]
    if not data:
        raise EOFError
    if len(data) < 4 or flags & socket.MSG_CTRUNC:
        raise EmulatorError(f"TPM control channel: request of {len(data)} bytes is not one")
    return data, passed
