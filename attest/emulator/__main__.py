"""``python -m attest.emulator``: run the emulated chip for one guest, or only make its certificates.

    --state DIR --init                      make keys and certificates, print the root, end
    --state DIR --socket PATH --firmware FILE [--hash-table FILE] --vcpus N (--cpu-model M | --vcpu-sig HEX)
                [--policy 0x30000] [--host-data HEX]

``python -m attest.emulator td …`` is the emulated TD: see :mod:`attest.emulator.td_main`.

Prints ``ready <launch digest> root <SHA-256 of the root's key>`` on standard output once it listens, and ends when its
standard input is closed, so it never outlives the launcher that started it.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from attest.emulator.chip import Chip, LaunchContext
from attest.emulator.common import integer, listen, log, print_line, read_limited
from attest.emulator.pki import make_crl
from attest.emulator.state import load_or_make
from policy.errors import CvmError

MAX_FIRMWARE = 64 * 1024 * 1024
MAX_HASH_TABLE = 4096


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when asked to end, 2 for wrong usage, 9 when the chip cannot start."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["td"]:
        from attest.emulator.td_main import run

        return _reported(lambda: run(words[1:]))
    parser = _parser()
    args = parser.parse_args(words)
    missing = [f"--{n}" for n in ("socket", "firmware", "vcpus") if getattr(args, n) is None]
    if not args.init and (missing or (args.cpu_model is None) == (args.vcpu_sig is None)):
        parser.error(f"missing {' '.join(missing) or 'one of --cpu-model and --vcpu-sig'} (or give --init)")
    return _reported(lambda: _run(args))


def _reported(work: Callable[[], int]) -> int:
    try:
        return work()
    except CvmError as exc:
        sys.stderr.write(f"attest.emulator: {exc}\n" + (f"  {exc.hint}\n" if exc.hint else ""))
        return 9


def _run(args: argparse.Namespace) -> int:
    now = datetime.now(UTC)
    keys = load_or_make(args.state, now)
    root = keys.root_sha256
    if args.init:
        print_line(f"root {root}")
        return 0
    from attest.emulator.server import serve

    launch = _launch(args)
    chip = Chip(keys, launch, make_crl(keys, now).public_bytes(Encoding.DER))
    with listen(args.socket) as listener:
        print_line(f"ready {launch.measurement.hex()} root {root}")
        try:
            serve(chip, listener, sys.stdin.fileno(), log)
        except KeyboardInterrupt:
            return 130
        finally:
            args.socket.unlink(missing_ok=True)
    return 0


def _launch(args: argparse.Namespace) -> LaunchContext:
    from attest.emulator.measure import launch_digest
    from ovmf.vcpu import vcpu_signature

    signature = args.vcpu_sig if args.vcpu_sig is not None else vcpu_signature(args.cpu_model)
    table = read_limited(args.hash_table, MAX_HASH_TABLE) if args.hash_table else None
    digest = launch_digest(read_limited(args.firmware, MAX_FIRMWARE), table, vcpus=args.vcpus, vcpu_sig=signature)
    return LaunchContext(digest, args.policy, args.host_data, secrets.token_bytes(32))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m attest.emulator", description="The emulated SEV-SNP chip (not AMD's)."
    )
    parser.add_argument(
        "--state", type=Path, required=True, metavar="DIR", help="keys and certificates; made on first use"
    )
    parser.add_argument("--init", action="store_true", help="only make the certificates and print the root")
    parser.add_argument("--socket", type=Path, metavar="PATH", help="unix socket to listen on, for QEMU's chardev")
    parser.add_argument("--firmware", type=Path, metavar="FILE", help="the firmware file QEMU is given")
    parser.add_argument("--hash-table", type=Path, metavar="FILE", help="the SEV hash table QEMU is given")
    parser.add_argument("--vcpus", type=_count, metavar="N", help="number of vCPUs")
    parser.add_argument("--cpu-model", metavar="MODEL", help="QEMU CPU model, such as EPYC-v4")
    parser.add_argument("--vcpu-sig", type=_signature, metavar="HEX", help="CPUID 1 EAX instead of a model")
    parser.add_argument("--policy", type=_policy, default=0x30000, metavar="N", help="guest policy")
    parser.add_argument("--host-data", type=_host_data, default=bytes(32), metavar="HEX", help="32 bytes")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"{text!r}: want 1 to 4096")
    return int(text)


def _policy(text: str) -> int:
    return integer(text, 0, 64)


def _signature(text: str) -> int:
    return integer(text, 16, 32)


def _host_data(text: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != 32:
        raise argparse.ArgumentTypeError("want 64 hexadecimal digits")
    return data


if __name__ == "__main__":
    sys.exit(main())
