"""The rules about a TD's event log that an appraisal policy can hold, decoded; read by ``policy.eventlog_table``.

A log is written by the untrusted side. The verifier refuses one that does not replay to the quoted registers, so its
digests are the TD's, in their order; what the events are *called* is not. :mod:`policy.measured_facts` says what can be
read from a log all the same, and the rules go by that. Two of them only hold together with others, which
``unlisted_events = "forbid"`` sees to: otherwise the digest of an evil kernel or command line could stand in the log
under an innocent name, beside the digest the policy wants, which any software in a TD can append.
"""

from __future__ import annotations

from dataclasses import dataclass

KERNEL_REGISTER, TEXT_REGISTER = 1, 2
"""Where firmware measures applications; where the kernel's loader measures command line and initrd."""

VARIABLES = {"pk_digests": "PK", "kek_digests": "KEK", "db_digests": "db", "dbx_digests": "dbx"}
"""Keys of the table, and the Secure Boot variable whose event they list (SHA-384 of the whole UEFI_VARIABLE_DATA)."""


@dataclass(frozen=True, slots=True)
class EventLogRules:
    """The ``[tdx.eventlog]`` table. ``None`` means left out; digests have 48 bytes, certificates' 32.

    ``boot_applications`` are Authenticode digests in order, of everything started before the kernel;
    ``kernel_digests`` those of the kernel (or unified kernel image), started last. ``cmdlines`` are whole lines: load
    options as the kernel's EFI stub is given them, and with GRUB every line that it measures. ``known_digests`` are of
    further events in RTMR1 and RTMR2. ``authorities``: SHA-256 of the certificates by which images were admitted.
    ``variables`` has the keys of :data:`VARIABLES`.
    """

    required: bool
    unexplained: bool
    """True where events are tolerated that have no business in their register."""
    unlisted: bool
    """True where RTMR1 and RTMR2 may hold more than the lists say."""
    known_digests: tuple[bytes, ...]
    boot_applications: tuple[bytes, ...] | None
    kernel_digests: tuple[bytes, ...] | None
    cmdlines: tuple[str, ...] | None
    cmdline_required: tuple[str, ...]
    cmdline_forbidden: tuple[str, ...]
    initrd_digests: tuple[bytes, ...] | None
    secure_boot: bool | None
    authorities: tuple[bytes, ...] | None
    variables: dict[str, tuple[bytes, ...] | None]

    @property
    def about_kernel(self) -> bool:
        """Whether a rule relies on RTMR1."""
        return self.kernel_digests is not None or self.boot_applications is not None

    @property
    def about_cmdline(self) -> bool:
        """Whether a rule relies on command lines."""
        return self.cmdlines is not None or bool(self.cmdline_required or self.cmdline_forbidden)

    @property
    def relies_on_log(self) -> bool:
        """Whether anything is compared that only a log tells."""
        secure_boot = self.secure_boot is not None or any(item is not None for item in self.variables.values())
        other = secure_boot or self.authorities is not None or self.initrd_digests is not None
        return other or self.about_kernel or self.about_cmdline
