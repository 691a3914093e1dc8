"""What the launcher refuses or could not do. Light: it is imported on the start-up path of every verb.

CvmError
  LauncherError
    PlanRefused        the VM as described can never start, whatever the host
    HostNotCapable     this host cannot run it
    EmulatorFailed     the emulated chip did not start, or disagrees about the launch digest
    QemuFailed         QEMU did not start, stopped by itself, or answered nonsense
    StorageFailed      a disk's server, or the daemon that talks to it
    GuestFailed        the guest said so, panicked, or ended before it had attested
    LaunchTimeout      nothing decisive happened in time
    GuestDenied        the attestation service refused the guest
    NotFound           no VM of that name
    WrongState         the VM is in no state for this
    StateUnusable      the state folder cannot be used
  ConfigInvalid
    VmConfigInvalid    a VM's TOML file, every problem at once
  MalformedInput
    StatusMalformed    a line from the guest's status port
    QmpMalformed       a line from QEMU's monitor
"""

from __future__ import annotations

from policy.errors import ConfigInvalid, CvmError, MalformedInput


class LauncherError(CvmError):
    """Root of this package's errors."""

    code = "launcher.error"


class VmConfigInvalid(ConfigInvalid):
    """A VM file with problems; ``problems`` lists all of them."""

    code = "config.invalid"


class PlanRefused(LauncherError):
    """The description is well-formed but no host can start it as it stands."""

    code = "plan.refused"


class HostNotCapable(LauncherError):
    """This host lacks something the VM needs."""

    code = "host.not-capable"


class QemuFailed(LauncherError):
    """QEMU did not start, stopped by itself, or answered nonsense."""

    code = "qemu.failed"


class StorageFailed(LauncherError):
    """A disk's server does not answer or refuses, or the storage daemon ended."""

    code = "storage.failed"


class EmulatorFailed(LauncherError):
    """The emulated chip did not start, or computed another launch digest than the plan."""

    code = "emulator.failed"


class GuestFailed(LauncherError):
    """The guest reported a failure, panicked, or ended before it had attested."""

    code = "guest.failed"


class LaunchTimeout(LauncherError):
    """Nothing decisive happened in time."""

    code = "launch.timeout"


class GuestDenied(LauncherError):
    """The attestation service refused the guest (as the guest tells it; the service's audit log is the truth)."""

    code = "attestation.refused"


class NotFound(LauncherError):
    """No VM of that name."""

    code = "vm.not-found"


class WrongState(LauncherError):
    """The VM is in no state for this."""

    code = "vm.wrong-state"


class StateUnusable(LauncherError):
    """The state folder cannot be made, read or trusted."""

    code = "state.unusable"


class StatusMalformed(MalformedInput):
    """A line from the guest's status port that is not in the protocol."""

    code = "status.malformed"


class QmpMalformed(MalformedInput):
    """A line from QEMU's monitor that is not QMP."""

    code = "qmp.malformed"
