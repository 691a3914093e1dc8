"""How a TD boots, as measured events: a kernel given to QEMU, or what a disk image holds.

A boot knows its own part: the images, the load options, the initrd, the end of boot services. Where it stands among the
platform's events is decided in `ovmf.td_predict`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ovmf import td_events as make
from ovmf.td_kernel import FIRST_WITH_CC_MEASUREMENT, DirectKernel, kernel_release, load_options
from ovmf.td_layout import TdLayout
from policy.measured import MeasuredEvent
from policy.reference_tdx import FLAVOUR_TDX

MAX_EXIT_FAILURES = 16


class BootEvents(NamedTuple):
    """``before``: up to the boot variables; ``after``: after ready-to-boot; ``exit``: the end of boot services.

    ``image``: what the firmware starts, for which something has to vouch with Secure Boot on. ``unified``: a kernel
    inside ``image`` is started as well. ``smbios``: ``image`` measures SMBIOS structures (`ovmf.uki.smbios_events`).
    """

    before: tuple[MeasuredEvent, ...]
    after: tuple[MeasuredEvent, ...]
    exit: tuple[MeasuredEvent, ...]
    unpredicted: tuple[str, ...] = ()
    from_disk: bool = False
    image: bytes | None = None
    unified: bool = False
    smbios: bool = False


class Boot(Protocol):
    """One way to boot."""

    def events(self, build: TdLayout, flavour: str, *, secure: bool) -> BootEvents:
        """Its events for a firmware build and flavour; ``secure``: Secure Boot is on."""
        ...


class DirectBoot(NamedTuple):
    """A kernel given with ``-kernel``. ``exit_failures``: how often ending boot services fails before it succeeds."""

    files: DirectKernel
    exit_failures: int = 0

    def events(self, build: TdLayout, flavour: str, *, secure: bool = False) -> BootEvents:
        """Kernel (and shim), load options, initrd. Raises `ovmf.errors.PeMalformed` for a kernel without EFI stub."""
        del secure  # decides what vouches for the image, which is the platform's part
        files = self.files
        release = kernel_release(files.kernel)
        unpredicted: list[str] = []
        after: list[MeasuredEvent] = []
        if files.shim is not None:
            unpredicted += _SHIM
        if build.load_options is None:
            unpredicted.append("RTMR2: where the firmware puts the initrd's name in the load options")
        elif flavour == FLAVOUR_TDX and (release is None or release < FIRST_WITH_CC_MEASUREMENT):
            shown = "unknown" if release is None else f"{release[0]}.{release[1]}"
            unpredicted.append(f"RTMR2: what the kernel's EFI stub measures: its release is {shown}, want 6.9 or later")
        else:
            after = _stub_events(files, build.load_options)
        started = files.shim or files.kernel
        ending = exit_events(self.exit_failures)
        return BootEvents((_image(files),), tuple(after), ending, tuple(unpredicted), image=started)


_SHIM = (
    "RTMR0: the variables and certificates the shim measures",
    "RTMR1: the images the shim starts",
    "RTMR2: the variables the shim measures",
)


def unknown_loader(why: str) -> tuple[str, ...]:
    """What a boot loader does to each register, when it is not known."""
    return (
        f"RTMR0: certificates and variables the boot loader measures ({why})",
        f"RTMR1: the images the boot loader starts ({why})",
        f"RTMR2: what the boot loader measures ({why})",
    )


def _image(files: DirectKernel) -> MeasuredEvent:
    """What the firmware itself starts; a shim measures what it starts in its own way."""
    if files.shim is not None:
        return make.application(files.shim, "shim given to QEMU")
    return make.application(files.kernel, "kernel given to QEMU")


def _stub_events(files: DirectKernel, order: str) -> list[MeasuredEvent]:
    """What Linux's EFI stub measures of a directly booted kernel."""
    options = load_options(
        files.cmdline, initrd=files.initrd_sha384 is not None, order=order, shim=files.shim is not None
    )
    return stub_events(options, files.initrd_sha384)


def stub_events(options: bytes, initrd_sha384: bytes | None) -> list[MeasuredEvent]:
    """The stub's events for load options (UTF-16LE with NUL; empty: none) and an initrd."""
    found = []
    if options:
        text = options.decode("utf-16-le", "replace").rstrip("\0")
        found.append(make.event(2, make.TAGGED, options, "load-options", text))
    if initrd_sha384 is not None:
        found.append(MeasuredEvent(2, make.TAGGED, initrd_sha384, "initrd"))
    return found


def exit_events(failures: int) -> tuple[MeasuredEvent, ...]:
    """The end of boot services, asked for again after each failure."""
    if not 0 <= failures <= MAX_EXIT_FAILURES:
        raise ValueError(f"exit_failures: {failures}")
    failed = (make.action(make.EXIT_CALLED), make.action(make.EXIT_FAILED)) * failures
    return (*failed, make.action(make.EXIT_CALLED), make.action(make.EXIT_DONE))
