"""Where a program is, as :func:`shutil.which` finds it; that module loads every kind of archive, for each launch."""

from __future__ import annotations

import os


def which(program: str) -> str | None:
    """The first executable file of that name in ``PATH``."""
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = f"{folder}/{program}"
        if folder and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None
