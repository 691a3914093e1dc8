"""Manual pages and shell completion, made from the parsers themselves: ``python -m tools.manual FOLDER``.

Writes ``cvm.1``, ``attest.1`` (roff, man macros) and ``cvm.bash``, ``attest.bash``. Nothing of it is kept under version
control, so no page can be older than its program. zsh reads the bash files after ``autoload bashcompinit``.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

PROGRAMS = ("cvm", "attest")


class Option(NamedTuple):
    """``names`` is empty for a positional argument; ``value`` is its placeholder, empty for a switch."""

    names: tuple[str, ...]
    value: str
    text: str
    choices: tuple[str, ...]


class Command(NamedTuple):
    """``words``: program, verb, and action where the verb has actions."""

    words: tuple[str, ...]
    text: str
    epilog: str
    options: tuple[Option, ...]


def commands(program: str) -> tuple[Command, ...]:
    """Every command of a program, in the order of its help."""
    return tuple(found for verb, parser in _parsers(program) for found in _walk((program, verb), parser))


def _parsers(program: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    package = import_module("launcher.cli" if program == "cvm" else "attest.cli")
    for verb in package.VERBS:
        if program == "cvm":
            yield verb, package.parser_of(verb, import_module(package.module_name(verb)))
        else:
            verbs = _actions_of(package._parser(verb))
            if verbs is None:
                raise TypeError("attest has verbs")
            yield verb, verbs.choices[verb]


def _walk(words: tuple[str, ...], parser: argparse.ArgumentParser) -> Iterator[Command]:
    options = tuple(_option(item) for item in parser._actions if not isinstance(item, argparse._SubParsersAction))
    yield Command(words, parser.description or "", parser.epilog or "", options)
    below = _actions_of(parser)
    if below is not None:
        for name, child in below.choices.items():
            yield from _walk((*words, name), child)


def _actions_of(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[argparse.ArgumentParser] | None:
    return next((item for item in parser._actions if isinstance(item, argparse._SubParsersAction)), None)


def _option(item: argparse.Action) -> Option:
    choices = tuple(map(str, item.choices)) if item.choices is not None else ()
    value = "" if item.nargs == 0 else str(item.metavar or "|".join(choices) or item.dest.upper())
    text = (item.help or "") if item.help != argparse.SUPPRESS else ""
    return Option(
        tuple(item.option_strings),
        value,
        re.sub(r"%\((\w+)\)s", lambda m: str(vars(item).get(m[1], "")), text),
        choices,
    )


def page(program: str) -> str:
    """The manual page, roff."""
    package = import_module("launcher.cli" if program == "cvm" else "attest.cli")
    lines = [f'.TH {program.upper()} 1 "" "cvm" "User Commands"', ".SH NAME", f"{program} \\- {_WHAT[program]}"]
    lines += [".SH SYNOPSIS", f".B {program}", ".I VERB", "[OPTIONS]", ".SH VERBS"]
    for verb, text in package.VERBS.items():
        lines += [".TP", f".B {roff(verb)}", roff(text)]
    lines.append(".SH COMMANDS")
    for command in commands(program):
        lines += [f".SS {roff(' '.join(command.words))}", *_paragraphs(command.text)]
        for option in command.options:
            head = ", ".join(f"\\fB{roff(name)}\\fR" for name in option.names)
            value = f"\\fI{roff(option.value)}\\fR" if option.value else ""
            lines += [".TP", f"{head} {value}".strip(), roff(option.text) or "\\&"]
        lines += [".PP", *_paragraphs(command.epilog)] if command.epilog else []
    return "\n".join(lines) + "\n"


_WHAT = {
    "cvm": "launch confidential virtual machines and know what they will measure",
    "attest": "verify what a confidential VM is, and release its keys",
}


def _paragraphs(text: str) -> list[str]:
    return [roff(line) for line in text.splitlines() if line.strip()]


def roff(text: str) -> str:
    """Text that troff prints as it is: backslashes, leading dots and quotes lose their meaning, hyphens stay."""
    plain = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


def bash(program: str) -> str:
    """A completion for bash: verbs, actions, options, the choices of options, names of VMs, files."""
    found = commands(program)
    package = import_module("launcher.cli" if program == "cvm" else "attest.cli")
    cases = []
    for command in found:
        path = " ".join(command.words[1:])
        below = [other.words[-1] for other in found if other.words[:-1] == command.words]
        names = [name for option in command.options for name in option.names]
        operands = [option for option in command.options if not option.names]
        chosen = [choice for option in operands for choice in option.choices]
        cases.append(_case([path], names, [*below, *chosen], _kind(operands)))
        for option in command.options:
            if option.names and option.value:
                kind = "" if option.choices else "file"
                cases.append(_case([f"{path} {name}" for name in option.names], [], list(option.choices), kind))
    return _BASH.format(
        program=program, verbs=_words(list(package.VERBS)), cases="\n".join(cases),
        paths=_words([" ".join(c.words[1:]) for c in found]),
    )  # fmt: skip


def _kind(operands: list[Option]) -> str:
    """What is completed besides words: names of VMs, files, or nothing."""
    open_ended = [option.value for option in operands if not option.choices]
    return "" if not open_ended else "vm" if open_ended[0] == "VM" else "file"


def _case(paths: list[str], options: list[str], operands: list[str], kind: str) -> str:
    pattern = "|".join(shlex.quote(path) for path in paths)
    return f"    {pattern}) options={_words(options)} operands={_words(operands)} kind={kind} ;;"


def _words(words: list[str]) -> str:
    return shlex.quote("\n".join(words))


_BASH = """# bash completion for {program}; made from its parser
_{program}_completion() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" path="" word previous known={paths}
  local options=$'--help\\n--version' operands={verbs} kind=""
  local IFS=$'\\n'
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    if grep -Fqx -- "${{path:+$path }}$word" <<<"$known"; then path="${{path:+$path }}$word"; fi
  done
  previous="$path ${{COMP_WORDS[COMP_CWORD-1]}}"
  for word in "$path" "$previous"; do
    case "$word" in
{cases}
    esac
  done
  case "$kind$current" in vm*) operands+=$'\\n'$({program} ps 2>/dev/null | awk 'NR > 1 {{ print $1 }}') ;; esac
  case "$current" in -*) kind="" ;; esac
  COMPREPLY=($(compgen -W "$operands" -- "$current"))
  if [ "$kind" = file ]; then COMPREPLY+=($(compgen -f -- "$current")); fi
  if [ -z "$kind" ]; then COMPREPLY+=($(compgen -W "$options" -- "$current")); fi
}}
complete -o filenames -F _{program}_completion {program}
"""


def main(arguments: list[str]) -> int:
    """Write the four files; 0."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tools.manual FOLDER\n")
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        (folder / f"{program}.1").write_text(page(program), encoding="utf-8")
        (folder / f"{program}.bash").write_text(bash(program), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
