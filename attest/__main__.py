"""``python -m attest``."""

from __future__ import annotations

from attest.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
