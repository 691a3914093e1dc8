"""Manual pages and completion say what the programs do, no more and no less."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from tools.manual import PROGRAMS, bash, commands, main, page, roff

BASH = shutil.which("bash")
MAN = shutil.which("man")


def verbs(program: str) -> dict[str, str]:
    found: dict[str, str] = import_module("launcher.cli" if program == "cvm" else "attest.cli").VERBS
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_page_has_every_command_and_option_and_no_other(program: str) -> None:
    text = page(program)
    sections = re.findall(r"^\.SS (.*)$", text, re.M)
    assert sections == [roff(" ".join(command.words)) for command in commands(program)]
    assert {command.words[1] for command in commands(program)} == set(verbs(program))
    for command in commands(program):
        body = text.partition(f".SS {roff(' '.join(command.words))}\n")[2].partition("\n.SS ")[0]
        written = set(re.findall(r"\\fB(\\-[^\\]*(?:\\-[^\\]*)*)\\fR", body))
        assert written == {roff(name) for option in command.options for name in option.names}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_option_in_a_commands_own_help_is_on_its_page(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = import_module("launcher.cli" if program == "cvm" else "attest.cli").main
    for command in commands(program):
        with pytest.raises(SystemExit):
            run([*command.words[1:], "--help"])
        said = set(re.findall(r"^  (?:-\w(?: \S+)?, )?(--[a-z][a-z0-9-]*)", capsys.readouterr().out, re.M))
        assert said <= {name for option in command.options for name in option.names}, command.words


@pytest.mark.skipif(MAN is None, reason="no man on this machine")
@pytest.mark.parametrize("program", PROGRAMS)
def test_man_formats_the_page_without_a_warning(program: str, tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    done = subprocess.run(
        [str(MAN), "--warnings", "-l", str(tmp_path / f"{program}.1")],
        capture_output=True, text=True, check=True, env={"MANWIDTH": "200", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.stderr == ""
    for verb in verbs(program):
        assert verb in done.stdout


def completed(program: str, *words: str, cwd: str = "/proc/self") -> list[str]:
    line = " ".join(f"'{word}'" for word in (program, *words))
    vms = "cvm() { printf 'NAME STATE\\nweb-1 running\\nweb-2 stopped\\n'; }"
    script = f"{vms}\n{bash(program)}\nCOMP_WORDS=({line}); COMP_CWORD={len(words)}; _{program}_completion\n"
    script += 'printf "%s\\n" "${COMPREPLY[@]}"\n'
    done = subprocess.run([str(BASH), "-c", script], capture_output=True, text=True, check=True, cwd=cwd)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(BASH is None, reason="no bash on this machine")
def test_bash_completes_verbs_actions_options_and_choices() -> None:
    assert completed("cvm", "pau") == ["pause"]
    assert set(completed("cvm", "")) == {*verbs("cvm"), "--help", "--version"}
    assert completed("cvm", "ps", "--js") == ["--json"]
    assert "console" in completed("cvm", "logs", "web-1", "--source", "")
    assert completed("attest", "evidence", "ver") == ["verify"]
    assert completed("cvm", "image", "uk") == ["uki"]
    assert "--policy" in completed("attest", "evidence", "verify", "--p")


@pytest.mark.skipif(BASH is None, reason="no bash on this machine")
def test_bash_completes_names_of_vms_and_files_where_they_belong(tmp_path: Path) -> None:
    (tmp_path / "web-1.toml").touch()
    (tmp_path / "b.key").touch()
    for verb in ("stop", "console", "logs", "exec"):
        assert completed("cvm", verb, "") == ["web-1", "web-2"], verb
    assert "--force" in completed("cvm", "stop", "-")
    assert sorted(completed("cvm", "plan", "", cwd=str(tmp_path))) == ["b.key", "web-1.toml"]
    assert completed("cvm", "exec", "web-1", "--key", "b", cwd=str(tmp_path)) == ["b.key"]
    assert completed("cvm", "snapshot", "create", "web-") == ["web-1", "web-2"]


@pytest.mark.parametrize(
    ("text", "written"), [("a-b", "a\\-b"), (".x", "\\&.x"), ("c:\\d", "c:\\ed"), ("a\n b", "a b")]
)
def test_text_is_written_so_that_troff_prints_it(text: str, written: str) -> None:
    assert roff(text) == written
