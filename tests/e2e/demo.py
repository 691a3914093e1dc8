"""``make demo``: the main job end to end, narrated, and checked.

A VM with an encrypted disk boots, proves what it is to the service, gets its disk key, reads its disk. Then the same VM,
changed in three ways, gets nothing. Exit code 0 only if all of that happened.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from launcher.io.cachedir import cache_folder
from tests.e2e.demo_snp import SnpDemo
from tests.e2e.demo_tdx import TdxDemo
from tests.e2e.story import Demo, Narrator
from tests.e2e.world import StepFailed, World

_DEMOS: dict[str, type[Demo]] = {"snp": SnpDemo, "tdx": TdxDemo}
_EMULATED = {
    "snp": "the chip is emulated, everything else is real",
    "tdx": "a software TPM measures, an emulated platform signs, everything else is real",
}


def main() -> int:
    """0 when the good VM read its disk and every tampered one got nothing, 1 otherwise, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--platform", choices=tuple(_DEMOS), default="snp", help="which TEE is emulated")
    parser.add_argument("--json", action="store_true", help="print one JSON record instead of the story")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the run")
    args = parser.parse_args()
    narrator = Narrator(quiet=args.json)
    narrator.title(f"cvm demo — a protected VM on this machine. No TEE here: {_EMULATED[args.platform]}.")
    folder = Path(tempfile.mkdtemp(prefix="cvm-demo-"))
    world = World(folder, cache_folder() / "image")
    code = 1
    try:
        for step in _DEMOS[args.platform](world, narrator).steps():
            step()
        code = 0
        seconds = time.monotonic() - narrator.start
        if not args.json:
            print(
                f"done        the good VM read its disk, every tampered one got nothing · {seconds:.0f} s", flush=True
            )
        if sys.stdout.isatty() and not args.json:
            _stay(narrator)
    except StepFailed as exc:
        print(f"demo: {exc}", file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
    finally:
        world.close()
        if code == 0 and not args.keep:
            shutil.rmtree(folder)
        else:
            print(f"demo: the folder of this run is {folder}", file=sys.stderr)
    narrator.record |= {"ok": code == 0, "seconds": round(time.monotonic() - narrator.start, 1)}
    if args.json:
        print(json.dumps(narrator.record, indent=2))
    return code


def _stay(narrator: Narrator) -> None:
    """On a terminal somebody may want to look: the service runs until Ctrl-C."""
    print(f"dashboard   {narrator.record['steps']['dashboard']['url']}   (Ctrl-C stops everything)", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    raise SystemExit(main())
