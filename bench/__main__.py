"""Run every benchmark module and print one table; the rows also go to ``.cache/bench.json``.

A module is ``bench/<name>.py`` with ``run() -> list[dict]``; a row has ``name``, ``ours``, ``peer``, ``ratio``,
``target``, ``met`` and ``detail``. Nothing here is a test: machines are shared and noisy, so a missed target is
printed, not failed. Name modules on the command line to run only those; a few run only when they are named.
"""

from __future__ import annotations

import importlib
import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ONLY_NAMED = ("audit_large",)
OUT = HERE.parent / ".cache" / "bench.json"


def main() -> int:
    """Run the modules named in argv, or all."""
    found = (path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    names = sys.argv[1:] or sorted(name for name in found if name not in ONLY_NAMED)
    rows: list[dict[str, Any]] = []
    for name in names:
        print(f"… {name}", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"bench.{name}").run()
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        mark = "met " if row["met"] else "MISS"
        figures = f"{row['ours']:>14}  {row['peer']:>14}  {row['ratio']:>8}"
        print(f"{row['name']:<{width}}  {figures}  {mark} {row['target']}")
        if row.get("detail"):
            print(f"{'':<{width}}  {row['detail']}")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "schema": "cvm.bench/1",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "rows": rows,
    }
    OUT.write_text(json.dumps(record, indent=2) + "\n")
    return 0


def _processor() -> dict[str, Any]:
    """Its name, and whether it has what AWS-LC's faster code for P-384 needs."""
    pairs = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    found = {name.strip(): value.strip() for name, _, value in pairs}
    flags = found.get("flags", "").split()
    return {"name": found.get("model name", "unknown"), "bmi2_adx": {"bmi2", "adx"} <= set(flags)}


if __name__ == "__main__":
    raise SystemExit(main())
