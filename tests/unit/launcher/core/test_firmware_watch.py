"""A firmware that stopped on purpose is told from one that is slow, starved, or long gone."""

from __future__ import annotations

from launcher.core.firmware_watch import FirmwareWatch, Sample, parse_dump, parse_rip

REGISTERS = """
CPU#0
RAX=0000000000000000 RBX=000000003f2ac018 RCX=0000000000000000 RDX=000000003ec6c148
R12=0000000000000000 R13=0000000000000000 R14=0000000000000000 R15=0000000000000000
RIP=000000003ec6c148 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
"""
DUMP = "000000003ec6c140: 0x48 0x39 0x45 0xf8 0x75 0x04 0xf3 0x90\n000000003ec6c148: 0xeb 0xef 0xc9 0xc3 0x31 0xc0 0x48 0x85\n"
LOOP = 0x3EC6C148


def watched(*samples: tuple[int, float, float]) -> int | None:
    watch = FirmwareWatch()
    for sample in samples:
        watch.add(Sample(*sample))
    return watch.stuck_at()


def test_registers_and_dumps_are_read_as_qemu_prints_them() -> None:
    assert parse_rip(REGISTERS) == LOOP
    assert parse_rip("EIP=0000fff0 EFL=00000002") == 0xFFF0
    assert parse_rip("nothing") is None
    assert parse_dump(DUMP) == bytes.fromhex("483945f87504f390ebefc9c331c04885")
    assert parse_dump("Cannot access memory") == b""


def test_a_busy_loop_in_one_place_is_suspected_and_its_pause_confirms_it() -> None:
    assert watched(*((LOOP - number % 3, number * 0.2, number * 0.2) for number in range(14))) == LOOP - 2
    assert FirmwareWatch.confirm(parse_dump(DUMP))
    assert not FirmwareWatch.confirm(b"\x90\xf3\xeb\xfe")


def test_a_short_stay_is_not_enough() -> None:
    assert watched((LOOP, 0.0, 0.0), (LOOP, 2.0, 2.0)) is None


def test_a_processor_that_moves_on_starts_the_window_anew() -> None:
    assert watched((LOOP, 0.0, 0.0), (LOOP + 4096, 1.5, 1.5), (LOOP, 3.0, 3.0), (LOOP, 4.0, 4.0)) is None


def test_a_starved_machine_is_only_slow_until_it_has_burned_enough() -> None:
    assert watched((LOOP, 0.0, 0.0), (LOOP, 0.1, 10.0)) is None
    assert watched((LOOP, 0.0, 0.0), (LOOP, 0.1, 10.0), (LOOP, 1.3, 30.0)) == LOOP


def test_a_kernel_is_no_firmware() -> None:
    assert watched((0xFFFFFFFF80000000, 0.0, 0.0), (0xFFFFFFFF80000000, 5.0, 5.0)) is None
