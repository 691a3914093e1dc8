"""An init for guests that only have to be up: it says so on the console and waits."""

from __future__ import annotations

from launcher.image.cpio import archive, file

IDLE = "/idle-init"
SAYS = b"init has started"


def idle_init() -> bytes:
    """An archive (cpio) to put behind an initrd that has a shell."""
    script = b"#!/bin/sh\necho " + SAYS + b" >/dev/console\nexec sleep 1000\n"
    return archive([file(IDLE.removeprefix("/"), script, executable=True)])
