"""Files that somebody named, of which only so much is read."""

from __future__ import annotations

import errno
from pathlib import Path


def read_at_most(path: Path, most: int) -> bytes:
    """All bytes of a file. Raises OSError with the reason in ``strerror``, ``EFBIG`` for more than ``most`` bytes."""
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"more than {most} bytes", str(path))
    return data
