"""``python -m attest.emulator td``: an emulated TD's module, quoting enclave and TPM, or only its certificates.

    td --state DIR --init                    make keys, certificates and collateral, print the root, end
    td --state DIR --socket PATH --tpm-socket PATH --tpm-state DIR --firmware FILE [--attributes N] [--xfam N]
       [--mrconfigid HEX] [--mrowner HEX] [--mrownerconfig HEX] [--quote-version 4|5]

Prints ``ready <MRTD> root <SHA-256 of the root's key>`` once it listens, and ends when its standard input is closed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from attest.emulator.common import integer, listen, log, print_line, read_limited
from attest.emulator.td_state import load_or_make

MAX_FIRMWARE = 64 * 1024 * 1024
SEPT_VE_DISABLE = 1 << 28
XFAM = 0x61AE7
"""x87, SSE, AVX, AVX-512, PKRU, CET and AMX: what ``-cpu host`` gives a TD on a fifth-generation Xeon."""
_IDENTITIES = ("mrconfigid", "mrowner", "mrownerconfig")


def run(arguments: Sequence[str]) -> int:
    """0 when asked to end, 2 for wrong usage; raises CvmError when it cannot go on."""
    parser = _parser()
    args = parser.parse_args(arguments)
    missing = [
        f"--{n.replace('_', '-')}" for n in ("socket", "tpm_socket", "tpm_state", "firmware") if not getattr(args, n)
    ]
    if missing and not args.init:
        parser.error(f"missing {' '.join(missing)} (or give --init)")
    keys = load_or_make(args.state, datetime.now(UTC))
    if args.init:
        print_line(f"root {keys.root_sha256}")
        return 0
    from attest.emulator.swtpm import Swtpm
    from attest.emulator.td_chip import TdChip, TdLaunch
    from attest.emulator.td_registers import TdRegisters
    from attest.emulator.td_server import serve_td
    from attest.emulator.td_tpm import WatchedTpm
    from ovmf.td_firmware import TdFirmware

    mrtd = TdFirmware.from_bytes(read_limited(args.firmware, MAX_FIRMWARE)).mrtd()
    launch = TdLaunch(mrtd, args.attributes, args.xfam, *(getattr(args, name) for name in _IDENTITIES))
    registers = TdRegisters()
    with closing(Swtpm(args.tpm_state)) as swtpm, listen(args.socket) as port, listen(args.tpm_socket) as control:
        tpm = WatchedTpm(swtpm, registers)
        chip = TdChip(keys, launch, registers, tpm.check, args.quote_version)
        print_line(f"ready {mrtd.hex()} root {keys.root_sha256}")
        try:
            serve_td(chip, tpm, port, control, sys.stdin.fileno(), log)
        except KeyboardInterrupt:
            return 130
        finally:
            for path in (args.socket, args.tpm_socket):
                path.unlink(missing_ok=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m attest.emulator td", description="The emulated TDX platform (not Intel's)."
    )
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="keys, certificates, collateral")
    parser.add_argument("--init", action="store_true", help="only make the certificates and print the root")
    parser.add_argument("--socket", type=Path, metavar="PATH", help="unix socket of the guest's port")
    parser.add_argument("--tpm-socket", type=Path, metavar="PATH", help="unix socket for QEMU's -tpmdev emulator")
    parser.add_argument("--tpm-state", type=Path, metavar="DIR", help="folder for this launch's TPM")
    parser.add_argument("--firmware", type=Path, metavar="FILE", help="the firmware file QEMU is given")
    parser.add_argument("--attributes", type=_bits, default=SEPT_VE_DISABLE, metavar="N", help="TD attributes")
    parser.add_argument("--xfam", type=_bits, default=XFAM, metavar="N", help="extended features")
    for name in _IDENTITIES:
        parser.add_argument(f"--{name}", type=_identity, default=bytes(48), metavar="HEX", help="48 bytes")
    parser.add_argument("--quote-version", type=int, choices=(4, 5), default=4, help="4: TDX 1.0 report, 5: 1.5")
    return parser


def _bits(text: str) -> int:
    return integer(text, 0, 64)


def _identity(text: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != 48:
        raise argparse.ArgumentTypeError("want 96 hexadecimal digits")
    return data
