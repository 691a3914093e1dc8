"""QEMU's qtest protocol, as far as reading fw_cfg files of a machine that runs no guest code needs it.

Text lines, answered by ``OK …`` or ``FAIL …``, with ``IRQ …`` lines in between. Sources: QEMU ``system/qtest.c``;
``docs/specs/fw_cfg.rst`` (selector registers, DMA interface, file directory).
"""

from __future__ import annotations

import socket
import struct
import time

from launcher.errors import QemuFailed

MAX_FILE, MAX_FILES = 4 << 20, 16 << 20
_SECONDS = 60.0
_MAX_LINE = 2 * MAX_FILE + 64
_DIRECTORY = 0x19
_DATA, _ACCESS = 0x800000, 0x400000
"""Guest-physical places for what DMA brings and for the DMA command; nothing runs that could mind."""
_DMA_PORT = 0x514
_READ, _SELECT, _WRITE = 0x02, 0x08, 0x10
_CONFIG_ADDRESS, _CONFIG_DATA = 0xCF8, 0xCFC


class Qtest:
    """One connection, for ``seconds`` in all, however the other end answers."""

    def __init__(self, channel: socket.socket, seconds: float = _SECONDS) -> None:
        self._channel = channel
        self._deadline = time.monotonic() + seconds
        self._read_ahead = bytearray()

    def close(self) -> None:
        """End the connection; QEMU ends with it."""
        self._channel.close()

    def __enter__(self) -> Qtest:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def files(self, names: tuple[str, ...]) -> dict[str, bytes]:
        """The contents of those fw_cfg files whose name begins with one of ``names`` and that are not empty."""
        wanted = {name: place for name, place in self.directory().items() if place[1] and name.startswith(names)}
        total = sum(size for _, size in wanted.values())
        if total > MAX_FILES:
            raise QemuFailed(f"QEMU: fw_cfg files of {total} bytes, want at most {MAX_FILES}")
        return {name: self.item(selector, size) for name, (selector, size) in wanted.items()}

    def directory(self) -> dict[str, tuple[int, int]]:
        """Name of every fw_cfg file to its selector and size."""
        count = int.from_bytes(self.item(_DIRECTORY, 4), "big")
        if count > 1024:
            raise QemuFailed(f"QEMU: fw_cfg directory of {count} files")
        raw = self.item(_DIRECTORY, 4 + 64 * count)
        entries = (struct.unpack_from(">IHH56s", raw, 4 + 64 * number) for number in range(count))
        return {name.split(b"\0")[0].decode("ascii", "replace"): (key, size) for size, key, _, name in entries}

    def item(self, selector: int, size: int) -> bytes:
        """The first ``size`` bytes of a fw_cfg item, by DMA."""
        if size > MAX_FILE:
            raise QemuFailed(f"QEMU: fw_cfg item {selector:#x} of {size} bytes, want at most {MAX_FILE}")
        self._transfer(selector, _READ, size)
        return self._read(_DATA, size)

    def write_item(self, selector: int, data: bytes) -> None:
        """Write the beginning of a fw_cfg item that the guest may write, by DMA."""
        self._write(_DATA, data)
        self._transfer(selector, _WRITE, len(data))

    def out32(self, port: int, value: int) -> None:
        """Write 32 bits to an I/O port."""
        self._command(f"outl {port:#x} {value:#x}")

    def pci_read(self, slot: tuple[int, int], register: int) -> int:
        """32 bits of the configuration space of (device, function) on bus 0."""
        self.out32(_CONFIG_ADDRESS, _address(slot, register))
        return int.from_bytes(self._hex(f"inl {_CONFIG_DATA:#x}"), "big")

    def pci_write(self, slot: tuple[int, int], register: int, value: int) -> None:
        """Write 32 bits there."""
        self.out32(_CONFIG_ADDRESS, _address(slot, register))
        self.out32(_CONFIG_DATA, value)

    def _transfer(self, selector: int, direction: int, size: int) -> None:
        self._write(_ACCESS, struct.pack(">IIQ", selector << 16 | _SELECT | direction, size, _DATA))
        self.out32(_DMA_PORT, 0)
        self.out32(_DMA_PORT + 4, int.from_bytes(_ACCESS.to_bytes(4, "big"), "little"))

    def _write(self, address: int, data: bytes) -> None:
        self._command(f"write {address:#x} {len(data):#x} 0x{data.hex()}")

    def _read(self, address: int, size: int) -> bytes:
        data = self._hex(f"read {address:#x} {size:#x}")
        if len(data) != size:
            raise QemuFailed(f"QEMU: qtest read {len(data)} bytes, want {size}")
        return data

    def _hex(self, line: str) -> bytes:
        answer = self._command(line)
        digits = answer.removeprefix("0x")
        try:
            return bytes.fromhex(digits if len(digits) % 2 == 0 and digits else f"0{digits}")
        except ValueError:
            raise QemuFailed(f"QEMU: qtest: {line[:40]}: got {answer[:40]!r}, want hexadecimal") from None

    def _command(self, line: str) -> str:
        try:
            self._wait()
            self._channel.sendall(line.encode("ascii") + b"\n")
            answer = self._line()
            while answer.startswith("IRQ"):
                answer = self._line()
        except OSError as exc:
            raise QemuFailed(f"QEMU: qtest: {exc}") from None
        if not answer.startswith("OK"):
            raise QemuFailed(f"QEMU: qtest: {line[:40]}: {answer[:80] or 'it ended'}")
        return answer[2:].strip()

    def _line(self) -> str:
        """The next line; what there is when the other end has ended."""
        seen = 0
        while (end := self._read_ahead.find(b"\n", seen)) < 0:
            seen = len(self._read_ahead)
            if seen > _MAX_LINE:
                raise QemuFailed(f"QEMU: qtest: a line of more than {_MAX_LINE} bytes")
            self._wait()
            more = self._channel.recv(1 << 16)
            if not more:
                end = seen
                break
            self._read_ahead += more
        line = bytes(self._read_ahead[:end])
        del self._read_ahead[: end + 1]
        return line.decode("ascii", "replace").strip()

    def _wait(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no time left")
        self._channel.settimeout(left)


def _address(slot: tuple[int, int], register: int) -> int:
    device, function = slot
    return 0x80000000 | device << 11 | function << 8 | register & 0xFC
