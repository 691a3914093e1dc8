"""What ``FILES`` lists is all the agent needs, and light enough for a measured image."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

PROBE = """
import json, sys
import attest.attester.init, attest.attester.configfs_tsm, attest.attester.sev_guest, attest.attester.emulated
import attest.attester.network, attest.attester.disk, attest.attester.payload
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_the_agent_imports_from_the_listed_files_and_nothing_but_cryptography_besides(
    repo: Path, tmp_path: Path
) -> None:
    listed = (repo / "attest/attester/FILES").read_text().split()
    assert listed == sorted(listed)
    for name in listed:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(repo / name, tmp_path / name)
    shutil.copytree(repo / "attest/attester", tmp_path / "attest/attester", dirs_exist_ok=True)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PROBE}"
    run = [sys.executable, "-P", "-c", code]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin"})
    loaded = set(json.loads(done.stdout))
    foreign = {name for name in loaded - set(sys.stdlib_module_names) if not name.startswith(("_", "__"))}
    # Debian's own Python on the build machine brings a sitecustomize; the image has none.
    assert foreign <= {"attest", "policy", "cryptography", "sitecustomize"}, foreign
    assert not loaded & {"flask", "requests", "sqlalchemy", "ovmf", "launcher", "asyncio", "unittest"}
