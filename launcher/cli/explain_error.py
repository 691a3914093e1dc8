"""``cvm explain-error``: cause and remedy of what QEMU, KVM or the firmware said."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from launcher.core.error_words import MAX_TEXT, Explanation, explain, explain_code
from launcher.core.text import safe_text
from launcher.errors import NotFound

DESCRIPTION = "Explain an error text of QEMU, KVM or OVMF, or a status code of the AMD firmware."
EPILOG = """examples: cvm explain-error "vm-type SEV-SNP not supported by KVM"
          cvm explain-error 0x26          cvm explain-error - < qemu.log
exit status: 0 explained, 10 nothing in it is known"""


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("text", metavar="TEXT|CODE|-", help="the words, a code such as 0x19, or - for standard input")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.explain-error/1)")


def run(args: Namespace) -> int:
    """Explain; 0, or NotFound."""
    text = sys.stdin.buffer.read(MAX_TEXT).decode("utf-8", "replace") if args.text == "-" else args.text
    code = _code(text)
    found = explain(text) if code is None else (explain_code(code),)
    if not found:
        raise NotFound("no known error in this text", hint="cvm doctor checks the host itself")
    sys.stdout.write(_json(found) if args.json else "\n".join(map(lines, found)) + "\n")
    return 0


def lines(item: Explanation) -> str:
    """An explanation as a person reads it."""
    return f"{item.id}: {safe_text(item.text, 200)}\n  cause   {item.cause}\n  remedy  {item.remedy}"


def _code(text: str) -> int | None:
    try:
        return int(text.strip(), 0)
    except ValueError:
        return None


def _json(found: tuple[Explanation, ...]) -> str:
    document = {"schema": "cvm.explain-error/1", "errors": [item._asdict() for item in found]}
    return json.dumps(document, indent=2) + "\n"
