"""Write ``docs/COMPLIANCE.md`` from the controls the dashboard shows: ``python -m tools.compliance``."""

from __future__ import annotations

from pathlib import Path

from attest.web.dashboard.compliance import FAMILIES, Control

_HEAD = """\
# Which records answer which control

The dashboard shows the same under *Compliance*, with links to the newest record of each kind. A record shows what this
service did; what an organisation has to do around it is named as *left to you*. Commands read `attest.toml` in the
current folder, or the file after `--config`.
"""


def text() -> str:
    """The whole document."""
    parts = [_HEAD]
    for family in FAMILIES:
        parts.append(f"\n## {family.title}\n\n{family.about}\n")
        parts += [_control(control) for control in family.controls]
    return "".join(parts)


def _control(control: Control) -> str:
    records = ", ".join(f"`{kind}`" for kind in control.kinds)
    commands = "".join(f"    {command}\n" for command in control.commands)
    return (
        f"\n### {control.id} {control.title}\n\n{control.answer}\n\nRecords: {records}.\n\n{commands}\n"
        f"Left to you: {control.open}\n"
    )


def main() -> int:
    """Write it."""
    path = Path(__file__).resolve().parent.parent / "docs" / "COMPLIANCE.md"
    path.write_text(text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
