"""The rules about a TD's event log that an appraisal policy can hold, decoded; read by ``policy.eventlog_table``.

A log is written by the untrusted side. The verifier refuses one that does not replay to the quoted registers, so its
*digests* are the TD's; what they are *called*, and any text beside a digest that was not recomputed from it, is not. A
rule therefore relies on digests, or on the text of an event that is ``proven``, in the register where firmware measures
it, and only if every event of that register is accounted for: otherwise a log could call the digest of an evil kernel a
separator and append the digest of a good one, which any software in the TD can extend.
"""

from __future__ import annotations

from dataclasses import dataclass

KERNEL_REGISTER, TEXT_REGISTER, VARIABLE_REGISTER = 1, 2, 0
"""Where firmware measures applications; where the kernel's loader measures command line and initrd; and variables."""

VARIABLES = {"pk_digests": "PK", "kek_digests": "KEK", "db_digests": "db", "dbx_digests": "dbx"}
"""Keys of the table, and the Secure Boot variable whose event they list (SHA-384 of the whole UEFI_VARIABLE_DATA)."""


@dataclass(frozen=True, slots=True)
class EventLogRules:
    """The ``[tdx.eventlog]`` table. ``None`` means left out.

    ``boot_applications`` are Authenticode digests (48 bytes) in order, of everything started before the kernel;
    ``kernel_digests`` those of the kernel (or unified kernel image), started last. ``cmdlines`` are whole load options
    as the event holds them; the two word lists apply to the same text. ``variables`` has the keys of
    :data:`VARIABLES`. ``names`` are the event names that may occur. ``known_digests`` are digests of events that can be
    neither proven nor listed above, such as configuration tables the operator recomputed.
    """

    required: bool
    names: tuple[str, ...] | None
    unaccounted: bool
    """True where events that no rule accounts for are tolerated."""
    known_digests: tuple[bytes, ...]
    boot_applications: tuple[bytes, ...] | None
    kernel_digests: tuple[bytes, ...] | None
    cmdlines: tuple[str, ...] | None
    cmdline_required: tuple[str, ...]
    cmdline_forbidden: tuple[str, ...]
    initrd_digests: tuple[bytes, ...] | None
    secure_boot: bool | None
    variables: dict[str, tuple[bytes, ...] | None]

    @property
    def relied_on(self) -> tuple[int, ...]:
        """Registers whose contents some rule relies on."""
        text = self.cmdlines is not None or self.cmdline_required or self.cmdline_forbidden
        variables = self.secure_boot is not None or any(item is not None for item in self.variables.values())
        found = {
            VARIABLE_REGISTER: variables,
            KERNEL_REGISTER: self.kernel_digests is not None or self.boot_applications is not None,
            TEXT_REGISTER: text or self.initrd_digests is not None,
        }
        return tuple(register for register, wanted in found.items() if wanted)

    @property
    def listed_digests(self) -> frozenset[bytes]:
        """Every digest the table names."""
        lists = (self.known_digests, self.boot_applications, self.kernel_digests, self.initrd_digests)
        return frozenset(item for found in (*lists, *self.variables.values()) for item in found or ())
