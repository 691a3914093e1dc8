"""An installed wheel has its bytecode; an editable install may not, and then every start of a program compiles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGES = ("policy", "ovmf", "launcher")


def compile_launcher() -> None:
    """Write what is missing."""
    root = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-m", "compileall", "-q", *(str(root / name) for name in PACKAGES)], check=True)
