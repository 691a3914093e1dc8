"""The picture of a measurement: which inputs made a launch digest, and which of them are not the expected ones.

Drawn twice, for wide and for narrow screens; the style sheet shows one. Each state has a sign and words beside its
colour. The text comes from guests and operators: all of it is made printable and escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from attest.evidence.event_text import shown

_SIGN = {"same": "=", "differs": "≠", "unknown": "?"}
_WORD = {"same": "as expected", "differs": "differs", "unknown": "not known"}
_EMPTY = Markup("")
_ROW, _SPACE = 54, 8


class _Shape(NamedTuple):
    """Where things stand: size of the drawing, width of a row, place and width of the digest's box, letters a line."""

    name: str
    width: int
    row: int
    box_x: int
    box_width: int
    letters: int


_WIDE = _Shape("wide", 760, 440, 536, 224, 52)
_NARROW = _Shape("narrow", 340, 316, 0, 340, 40)
_BOX_HEIGHT = 92


def launch_picture(launch: dict[str, Any]) -> Markup:
    """Of an SEV-SNP launch: ``inputs`` flow into the digest that was ``reported``."""
    rows = [(item["label"], item["expected"], item["reported"], item["state"]) for item in launch["inputs"]]
    same = launch.get("outcome", "same") == "same"
    end = ("launch digest", launch["reported"], launch["expected"], launch.get("reference"), same)
    return _draw(_WIDE, rows, end, launch["text"]) + _draw(_NARROW, rows, end, launch["text"])


def td_picture(launch: dict[str, Any]) -> Markup:
    """Of a TD: five registers flow into what the quote says."""
    rows = [(item["name"], item["expected"] or "", item["reported"], item["state"]) for item in launch["registers"]]
    same = launch["outcome"] == "same"
    end = ("quote", launch["reported"], launch["registers"][0]["expected"], launch["reference"], same)
    return _draw(_WIDE, rows, end, launch["text"]) + _draw(_NARROW, rows, end, launch["text"])


def _draw(shape: _Shape, rows: Sequence[Any], end: Any, words: str) -> Markup:
    height = len(rows) * (_ROW + _SPACE)
    wide = shape is _WIDE
    box_y = max(0.0, height / 2 - _BOX_HEIGHT / 2) if wide else float(height + 20)
    total = max(height, _BOX_HEIGHT) if wide else height + 20 + _BOX_HEIGHT
    target = box_y + _BOX_HEIGHT / 2 if wide else box_y
    lines = _EMPTY.join(_line(shape, number, row[3], target) for number, row in enumerate(rows))
    boxes = _EMPTY.join(_row(shape, number, row) for number, row in enumerate(rows))
    return Markup(
        '<svg class="picture picture-{}" viewBox="-1 -1 {} {:.0f}" role="img" aria-label="{}">{}{}{}</svg>'
    ).format(
        shape.name, shape.width + 2, total + 2, f"Measurement: {shown(words)}", lines, boxes, _end(shape, box_y, end)
    )


def _line(shape: _Shape, number: int, state: str, target: float) -> Markup:
    y = number * (_ROW + _SPACE) + _ROW / 2
    start = shape.row
    if shape is _WIDE:
        bend = (shape.box_x - start) / 2
        path = f"M{start} {y}C{start + bend} {y} {shape.box_x - bend} {target} {shape.box_x} {target}"
    else:
        path = f"M{start} {y}H{start + 12}V{target}"
    return Markup('<path class="flow flow-{}" d="{}"/>').format(state, path)


def _row(shape: _Shape, number: int, row: Any) -> Markup:
    label, expected, reported, state = row
    y = number * (_ROW + _SPACE)
    title = f"{label}: {_WORD[state]}; expected {expected or 'nothing'}, measured {reported or 'not known'}"
    if state == "differs":
        texts = [("expected ", expected), ("measured ", reported)]
    else:
        texts = [("", expected if state == "unknown" else reported)]
    label_y, value_y = (y + 23, y + 40) if len(texts) == 1 else (y + 17, y + 32)
    parts = [
        Markup('<text class="value" x="46" y="{}">{}</text>').format(
            value_y + 14 * line, _cut(head + shown(value or "—"), shape.letters)
        )
        for line, (head, value) in enumerate(texts)
    ]
    return Markup(
        '<g class="input input-{}"><title>{}</title><rect x="0" y="{}" width="{}" height="{}" rx="8"/>'
        '<text class="sign" x="22" y="{}">{}</text><text class="label" x="46" y="{}">{}</text>{}</g>'
    ).format(
        state, shown(title), y, shape.row, _ROW, y + 33, _SIGN[state], label_y, shown(label), _EMPTY.join(parts)
    )  # fmt: skip


def _end(shape: _Shape, y: float, end: Any) -> Markup:
    label, reported, expected, reference, same = end
    x = shape.box_x
    verdict = f"= {reference or 'reference'}" if same else f"≠ {reference}" if reference else "nothing to compare with"
    wanted = "" if same or not expected else f"expected {expected[:8]}…{expected[-6:]}"
    texts = ((24, "label", label), (43, "value", f"{reported[:8]}…{reported[-6:]}"), (59, "value", wanted))
    lines = _EMPTY.join(
        Markup('<text class="{}" x="{}" y="{}">{}</text>').format(name, x + 16, y + down, shown(text))
        for down, name, text in texts
        if text
    )
    return Markup(
        '<g class="digest digest-{}"><title>{}</title><rect x="{}" y="{}" width="{}" height="{}" rx="10"/>{}'
        '<text class="verdict" x="{}" y="{}">{}</text></g>'
    ).format(
        "same" if same else "differs", f"{label} {reported}", x, y, shape.box_width, _BOX_HEIGHT, lines,
        x + 16, y + 78 if wanted else y + 64, _cut(shown(verdict), 26),
    )  # fmt: skip


def _cut(text: str, letters: int) -> str:
    """The middle is what digests and paths can spare."""
    if len(text) <= letters:
        return text
    head = (letters - 1) * 2 // 3
    return f"{text[:head]}…{text[head + 1 - letters :]}"
