"""How the emulated chip fails before it answers anything."""

from __future__ import annotations

from attest.errors import AttestError


class EmulatorError(AttestError):
    """The emulated chip cannot start: unusable state folder, firmware or options."""

    code = "emulator.failed"
