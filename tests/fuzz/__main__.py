"""Coverage-guided fuzzing of one target: ``python -m tests.fuzz TARGET [libFuzzer options]`` (``make fuzz`` runs all).

New inputs go to a scratch folder; add the interesting ones to ``corpus/TARGET/`` by hand so that they run as tests.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path


def main() -> int:
    """Run one target under Atheris."""
    if len(sys.argv) < 2:
        names = sorted(path.stem for path in (Path(__file__).parent / "targets").glob("*.py"))
        print("usage: python -m tests.fuzz TARGET [libFuzzer options]\ntargets:", *names, file=sys.stderr)
        return 2
    import atheris

    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["policy", "ovmf", "launcher", "attest"]):
        one = importlib.import_module(f"tests.fuzz.targets.{name}").one
    corpus = Path(__file__).parent / "corpus" / name
    scratch = tempfile.mkdtemp(prefix=f"fuzz-{name}-")
    atheris.Setup([sys.argv[0], scratch, str(corpus), *sys.argv[1:]], one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
